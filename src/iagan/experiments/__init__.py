"""The paper's experiments, rerun: settings as data, resumable records, tables."""
