"""The published networks, and ours."""
