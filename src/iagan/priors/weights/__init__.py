"""Weights files: priors available by name, published layouts, and this package's format."""
