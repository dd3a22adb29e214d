"""Explicit vectors: what every kernel is made of."""
