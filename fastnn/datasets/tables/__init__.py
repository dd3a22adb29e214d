"""Reads tables: a frame of any file, the roles of its columns, and their values as inputs and labels."""
