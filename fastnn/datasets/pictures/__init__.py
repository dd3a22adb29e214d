"""Reads pictures of digits: grey, background, ink, lines, marks; and fits a digit into MNIST's format."""
