"""Benchmarks against plain loops, deepinv and the machine's peak rates: `make bench`."""
