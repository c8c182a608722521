"""Files of weights: priors known by name, published layouts, our own format."""
