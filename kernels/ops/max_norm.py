"""Max-norm: the incoming weights of every unit are scaled down to a norm that they exceed.

`fastnn.optim.max_norm` defines it. A column of weights belongs to one unit. The weights have just been updated, so they
are in a nearby cache; reading them once more costs a fraction of the update. They are written only if a norm is too
large.
"""

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import by_vectors
from fastnn.kernels.vector.simd import lanes, vdiv, vfma, vlarger, vload, vmul, vsplat, vsqrt, vstore, vsub, vsum, vzero


@inlined
def limit_columns(parameters, at, rows, width, limit, columns):
    """Limit the norms of some columns of ``weight = parameters[at : at + rows * width]``, (rows, width).

    limit: float64, the largest norm
    columns: the range of the columns

    For rows of any length. The squares are added in float64, so they cannot overflow in float32.
    """
    never_inline()
    end, real = at + rows * width, parameters.dtype.type
    for c in columns:
        squares = 0.0
        for k in range(at + c, end, width):
            squares += np.float64(parameters[k]) * np.float64(parameters[k])
        norm = np.sqrt(squares)
        if norm > limit:
            factor = real(limit / norm)
            for k in range(at + c, end, width):
                parameters[k] *= factor


@inlined
def _limit_vectors(parameters, at, rows, limit, n):
    """`limit_columns` for all columns of rows of `n` vectors: the columns are in the lanes."""
    never_inline()
    width, bound = len(n) * lanes(parameters), vsplat(parameters.dtype.type(limit), n)
    squares = vzero(parameters, n)
    for k in range(at, at + rows * width, width):
        w = vload(parameters, k, n)
        squares = vfma(w, w, squares)
    norms = vlarger(vsqrt(squares), bound)
    if not vsum(squares) < np.inf:  # too large for the dtype, or not finite
        limit_columns(parameters, at, rows, width, limit, range(width))
    elif vsum(vsub(norms, bound)) > 0:
        factor = vdiv(bound, norms)  # 1 where the norm is small enough
        for k in range(at, at + rows * width, width):
            vstore(parameters, k, vmul(factor, vload(parameters, k, n)))


limit_panel = by_vectors(_limit_vectors)
