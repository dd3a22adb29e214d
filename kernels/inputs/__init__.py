"""The first layer: one file for each form of the inputs.

Each file gathers the inputs of a block, computes their weighted sums before scale and bias, and uses the gradient of
these sums for the weights. The functions share these arguments:

images: (N, D), the data set
csr: the data set as lists
rows: (B,) int64, the samples of the block, at most BLOCK
n_rows: B
out: a block's outputs, `Units.out`; the sums overwrite the rows of `panel`
dout: a block's gradients, `Units.dout`
panel: a panel of the first layer's units; threads that share rows have only one
"""

# The forms of the inputs in an epoch, and their names. PACKED_LISTS are packed from a data set given as lists;
# LISTS are visited sample by sample.
DENSE, PACKED, PACKED_LISTS, LISTS, ROW_BLOCKS = range(5)
FORM_NAMES = ("dense", "packed", "packed", "lists", "row blocks")
