"""Reads files of arrays, archives and folders, and finds out which files hold which data set."""
