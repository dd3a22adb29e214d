"""One operation a file, forward and backward."""
