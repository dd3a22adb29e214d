"""The update of some of the parameters with their gradient, for batches whose gradient is computed in several parts."""

from fastnn.kernels.jit import kernel
from fastnn.kernels.ops.optimizers import apply_update


@kernel
def update_slices(parameters, gradient, gradient_at, step, slices):
    """Update the parameters of `slices`.

    parameters: (P,), updated where the slices are, and so are the arrays of the optimizer in ``step.state``
    gradient: the gradient of the parameters from offset `gradient_at` on, the L2 term included; it must reach as far as
        the slices
    step: a `Step` whose block is the first and the last of its batch, with an `l2` of 0
    slices: (K, 5) int64, rows of the `slices` of `WorkByChunks`
    """
    one = gradient.dtype.type(1)
    for k in range(len(slices)):
        at, rows, vectors, is_weight = slices[k, 0], slices[k, 1], slices[k, 2], slices[k, 3]
        apply_update(vectors, step, is_weight != 0, one, parameters, at, gradient[at - gradient_at :], rows)
