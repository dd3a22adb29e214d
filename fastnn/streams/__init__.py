"""Data larger than memory: readers that give one block of rows at a time, in all formats that `open_data` knows."""
