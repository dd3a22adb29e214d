"""A whole epoch of training, and a whole prediction, in one call a thread."""
