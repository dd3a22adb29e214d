"""Exponential and logarithm of vectors, by polynomials. Numba's own functions compute one number at a time."""

import math

from fastnn.kernels.compiler.lazy import ir
from fastnn.kernels.jit import intrinsic
from fastnn.kernels.vector.simd import call, constant, llvm_vector, multiply_add

# exp(x) = 2**n * exp(r) with n = round(x / ln 2) and |r| <= ln 2 / 2. exp(r) is a Taylor polynomial of this degree: its
# first omitted term, r**8 / 8! or r**14 / 14!, is below half a unit in the last place.
_DEGREE = {32: 7, 64: 13}
# ln 2 as the sum of two numbers. The first has few significant bits, so n times it is exact.
_LN2 = {32: (0.693359375, -2.121944400546905827679e-4), 64: (0.6931471803691238, 1.9082149292705877e-10)}
# The range of x for which 2**n is a normal number. Below it exp returns 0, above it infinity.
_EXP_RANGE = {bits: (math.log(2) * low, math.log(2) * high) for bits, low, high in ((32, -126, 127), (64, -1022, 1023))}


@intrinsic
def vexp(_, x):
    """The exponential of each lane, within 2 units in the last place. NaN stays NaN.

    A result below the smallest normal number becomes 0, a result above 2**127 (float64: 2**1023) infinity.

    Numba no longer has a vectorised exp (it came with Intel's SVML). Its scalar exp would cost more than the rest of
    softmax.
    """
    bits = x.element.bitwidth
    low, high = _EXP_RANGE[bits]
    mantissa, bias = (23, 127) if bits == 32 else (52, 1023)
    integers = ir.VectorType(ir.IntType(bits), x.lanes)
    ln2_high, ln2_low = _LN2[bits]

    def codegen(context, builder, signature, args):
        (value,) = args
        limited = builder.select(builder.fcmp_ordered(">", value, constant(x, high)), constant(x, high), value)
        small = builder.fcmp_unordered("<", limited, constant(x, low))  # NaN too: fptosi needs a number
        limited = builder.select(small, constant(x, low), limited)
        n = call(builder, "rint", x, builder.fmul(limited, constant(x, 1 / math.log(2))))
        r = multiply_add(builder, x, n, constant(x, -ln2_high), limited)
        r = multiply_add(builder, x, n, constant(x, -ln2_low), r)
        result = constant(x, 1 / math.factorial(_DEGREE[bits]))
        for k in range(_DEGREE[bits] - 1, -1, -1):
            result = multiply_add(builder, x, result, r, constant(x, 1 / math.factorial(k)))
        exponent = builder.add(builder.fptosi(n, integers), ir.Constant(integers, [bias] * x.lanes))
        power = builder.bitcast(builder.shl(exponent, ir.Constant(integers, [mantissa] * x.lanes)), llvm_vector(x))
        result = builder.fmul(result, power)
        infinite = builder.fcmp_ordered(">", value, constant(x, high))
        result = builder.select(infinite, constant(x, math.inf), result)
        result = builder.select(builder.fcmp_ordered("<", value, constant(x, low)), constant(x, 0.0), result)
        return builder.select(builder.fcmp_unordered("uno", value, value), value, result)

    return x(x), codegen


# log(m) = 2 * atanh(f) with f = (m - 1) / (m + 1), for m from sqrt(1/2) to sqrt(2), so |f| <= 0.172. The series of
# atanh has this many terms: the first omitted term is below a quarter of a unit in the last place.
_LOG_TERMS = {32: 5, 64: 11}


@intrinsic
def vlog(_, x):
    """The natural logarithm of each lane, within 2 units in the last place.

    Each lane must be a positive normal number, infinity or NaN. Infinity and NaN stay as they are.

    The result is ``n * log(2) + log(m)`` for ``x = 2**n * m``. The bits of x give n and m.
    """
    bits = x.element.bitwidth
    mantissa = 23 if bits == 32 else 52
    integers = ir.VectorType(ir.IntType(bits), x.lanes)
    half_root = 0x3F3504F3 if bits == 32 else 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
    ln2_high, ln2_low = _LN2[bits]

    def codegen(context, builder, signature, args):
        (value,) = args
        pattern, shift = builder.bitcast(value, integers), ir.Constant(integers, [mantissa] * x.lanes)
        exponent = builder.ashr(builder.sub(pattern, ir.Constant(integers, [half_root] * x.lanes)), shift)
        m = builder.bitcast(builder.sub(pattern, builder.shl(exponent, shift)), llvm_vector(x))
        n, one = builder.sitofp(exponent, llvm_vector(x)), constant(x, 1.0)
        f = builder.fdiv(builder.fsub(m, one), builder.fadd(m, one))
        square, terms = builder.fmul(f, f), _LOG_TERMS[bits]
        series = constant(x, 2 / (2 * terms - 1))
        for k in range(terms - 2, 0, -1):
            series = multiply_add(builder, x, series, square, constant(x, 2 / (2 * k + 1)))
        # The large term 2 * f is added after the small terms, so that their rounding errors do not matter.
        result = multiply_add(builder, x, n, constant(x, ln2_low), builder.fmul(builder.fmul(f, square), series))
        result = builder.fadd(result, builder.fadd(f, f))
        result = multiply_add(builder, x, n, constant(x, ln2_high), result)
        ordinary = builder.fcmp_ordered("<", value, constant(x, math.inf))
        return builder.select(ordinary, result, value)

    return x(x), codegen
