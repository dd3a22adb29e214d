"""The first layer: one file for each form of the inputs."""

# The forms of the inputs in an epoch, and their names. PACKED_LISTS are packed from a data set given as lists.
DENSE, PACKED, PACKED_LISTS, LISTS, ROW_BLOCKS = range(5)
FORM_NAMES = ("dense", "packed", "packed", "lists", "row blocks")
