"""The Numba type of vectors. This file is imported when a kernel is compiled, because it needs Numba."""

from llvmlite import ir
from numba.core import types
from numba.extending import models, register_model

# The bytes of a vector: one register of AVX-512, two of AVX2, four of NEON.
VECTOR = 64


class Vector(types.Type):
    """The Numba type of `n` vectors of 64 bytes, treated as one value, with lanes of the float type `element`."""

    def __init__(self, element, n):
        self.element, self.n, self.lanes = element, n, n * VECTOR * 8 // element.bitwidth
        super().__init__(name=f"Vector({element}, {n})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        number = ir.DoubleType() if fe_type.element.bitwidth == 64 else ir.FloatType()
        super().__init__(dmm, fe_type, ir.VectorType(number, fe_type.lanes))
