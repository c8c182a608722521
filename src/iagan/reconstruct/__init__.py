"""The algorithms: one loop, one signature."""
