"""The first layer when few inputs are zero: samples are copied beside each other and go through register tiles."""

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import INPUTS, size_of, weight_panel
from fastnn.kernels.ops.matmul import OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.ops.optimizers import multiply_and_update


@inlined
def copy_inputs(images, rows, dense, t, threads):
    """Thread t's share of copying the samples `rows` of `images` (N, D), one after the other, in the working dtype."""
    never_inline()
    n_inputs, real = images.shape[1], dense.dtype.type
    for s in range(len(rows) * t // threads, len(rows) * (t + 1) // threads):
        image, row = images[rows[s]], dense[s * n_inputs : (s + 1) * n_inputs]
        for i in range(n_inputs):
            row[i] = real(image[i])


@inlined
def dense_sums(layout, n_rows, dense, out, panel):
    """Weighted sums of the first layer, before scale and bias, for a panel's units."""
    n_inputs = size_of(layout, INPUTS)
    multiply_panel(
        out, panel.at, panel.row, dense, START, n_inputs, STRIDE_1, layout.parameters,
        weight_panel(layout, INPUTS, panel), panel.width, n_inputs, n_rows, panel.vectors, OVERWRITE,
    )  # fmt: skip


@inlined
def update_dense(layout, n_rows, step, dense, dout, state, gradient_tile, panel):
    """Gradient and step of the first layer's weights that lead to a panel's units; returns the sum of their squares."""
    n_inputs = size_of(layout, INPUTS)
    return multiply_and_update(
        layout, weight_panel(layout, INPUTS, panel), dense, START, n_inputs, n_inputs, n_rows, step, layout.scale, dout,
        state, gradient_tile, panel,
    )  # fmt: skip
