"""Reproduction of the paper's experiments: settings as data, resumable records, tables."""
