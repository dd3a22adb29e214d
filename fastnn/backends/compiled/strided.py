"""Arrays that kernels read where they are, in any memory order, float32 or float64, without a copy of the whole."""

from collections.abc import Iterator

import numpy as np

from fastnn.backends.compiled.layout import REAL_DTYPES, in_kernel_dtype, readonly_view
from fastnn.kernels.compiler.arguments import address_of
from fastnn.kernels.inputs.strided import Strided

# The number of values to convert at a time.
AT_ONCE = 2**18
NOT_STRIDED = Strided(0, 0, 0, 0)


def can_be_strided(inputs: np.ndarray) -> bool:
    """Return whether a kernel can read an array (N, D) by its strides: aligned numbers in native byte order."""
    return (
        inputs.dtype in REAL_DTYPES
        and inputs.flags.aligned
        and not any(stride % inputs.itemsize for stride in inputs.strides)
    )


def needs_no_strides(inputs: np.ndarray, real: np.dtype) -> bool:
    """Return whether a kernel can use an array as it is: C-contiguous, uint8 or the working dtype."""
    return (inputs.dtype == real or inputs.dtype == np.uint8) and inputs.flags.c_contiguous and inputs.flags.aligned


def strided(inputs: np.ndarray, real: np.dtype) -> tuple[Strided, np.ndarray]:
    """Return the address and the strides of an array, and an empty array (0, D) of the working dtype.

    The address is valid as long as the caller keeps the array.
    """
    row, column = (stride // inputs.itemsize for stride in inputs.strides)
    empty = readonly_view(np.empty((0, inputs.shape[1]), real))
    return Strided(address_of(inputs), row, column, inputs.itemsize), empty


def count_nonzero(inputs: np.ndarray, real: np.dtype) -> int:
    """Return the number of inputs that are nonzero in the working dtype, converted in parts."""
    return sum(int(np.count_nonzero(in_kernel_dtype(part, real))) for part in parts(inputs))


def parts(inputs: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of an array (N, D), about AT_ONCE numbers at a time."""
    n_rows = rows_at_once(inputs.shape[1])
    for start in range(0, len(inputs), n_rows):
        yield inputs[start : start + n_rows]


def rows_at_once(n_inputs: int) -> int:
    """Return the number of rows of about AT_ONCE numbers, at least 256: fewer would be predicted more slowly."""
    return max(256, AT_ONCE // max(1, n_inputs))
