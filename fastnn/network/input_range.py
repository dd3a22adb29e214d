"""Finds inputs that were scaled twice, or not at all: their range does not fit the network's input scale."""

import warnings
from typing import Any

import numpy as np

from fastnn.datasets.sparse import is_sparse
from fastnn.network.network import Network

# The range is that of at most this many rows.
_MAX_ROWS = 1000
# A network that multiplies by at least FULL_SCALE expects inputs of about 1; by at most SMALL_SCALE, larger ones.
FULL_SCALE, SMALL_SCALE = 0.5, 0.1
# Bytes that reach this value are pixels of 0 to 255, in rows of at least MIN_PIXELS.
BRIGHT, MIN_PIXELS = 128, 16


def check_scale(network: Network, inputs: Any, stacklevel: int = 2) -> None:
    """Warn if the range of inputs shows that they are not what the network scales.

    Parameters
    ----------
    network : Network
        Multiplies its inputs by `input_scale`.
    inputs : ndarray of shape (N, D), or SciPy CSR matrix
        Raw inputs, as `evaluate` and `predict` take them.
    stacklevel : int
        As in `warnings.warn`: 2 for the caller of this function, 3 for the caller of that one.

    Warns
    -----
    UserWarning
        If inputs of 0 to 1 would be divided again by 16 or 255, or bytes up to 255 would not be divided.

    Examples
    --------
    >>> import warnings
    >>> import fastnn
    >>> from fastnn.network import check_scale
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     check_scale(network, data.images)
    ...     check_scale(network, data.images / 16)
    >>> [str(each.message) for each in caught]
    ['inputs lie in 0 ... 1, but the network multiplies them by 1/16: pass them as they were before scaling']
    """
    scale, scales = network.input_scale, None if network.standardization is None else network.standardization.scale
    if scales is not None:
        scale = float(scales[0])
        if (scales != scale).any():  # columns of different ranges
            return
    if inputs.ndim != 2 or inputs.shape[0] == 0 or inputs.shape[1] == 0:
        return
    rows = inputs[:_MAX_ROWS]
    values = rows.data if is_sparse(rows) else np.asarray(rows)
    if not values.size or values.dtype.kind not in "buif":
        return
    low, high = float(values.min()), float(values.max())
    if scale <= SMALL_SCALE and low >= 0 and 0 < high <= 1:
        found, advice = "lie in 0 ... 1", "pass them as they were before scaling"
    elif scale >= FULL_SCALE and values.dtype == np.uint8 and high >= BRIGHT and inputs.shape[1] >= MIN_PIXELS:
        found, advice = f"are bytes up to {high:g}", "pass them scaled as the training data were"
    else:
        return
    factor = f"1/{1 / scale:.6g}" if scale < 1 else f"{scale:g}"
    warnings.warn(
        f"inputs {found}, but the network multiplies them by {factor}: {advice}", UserWarning, stacklevel=stacklevel
    )
