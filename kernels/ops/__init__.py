"""One operation per file, forward and backward."""
