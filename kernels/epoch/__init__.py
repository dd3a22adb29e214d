"""A whole epoch of training, or a whole prediction, in one call per thread."""
