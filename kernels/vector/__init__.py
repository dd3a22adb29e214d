"""Explicit vectors, from which every kernel is built."""
