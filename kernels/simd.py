"""Explicit vectors for Numba: values of one or several machine vectors, and what the kernels do with them.

Driven from plain Numba loops, LLVM's auto-vectoriser finds only part of what these kernels need: it checks at run time
whether arrays overlap, keeps sums in memory instead of registers, and prefers half the width on AVX-512. The values
here are LLVM's own vectors. A vector of 64 bytes becomes one, two or four registers, as the CPU has them, so the same
source runs everywhere. All is generic in the element: an array's dtype decides between 16 lanes of float32 and 8 of
float64.

How many vectors a value has is known when a kernel is compiled: it is the length of a tuple, one of ONE to FOUR, that
is passed for nothing but its type.
"""

import math

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

# Bytes of a vector: one register of AVX-512, two of AVX2, four of NEON.
VECTOR = 64
ONE, TWO, FOUR, FIVE, SIX, EIGHT, TEN, SIXTEEN = ((0,) * count for count in (1, 2, 4, 5, 6, 8, 10, 16))
# Whether a vector is one register of the CPU that code is compiled for: this one, or that of NUMBA_CPU_FEATURES.
_features = numba.config.CPU_FEATURES
WHOLE_REGISTERS = "+avx512f" in (llvmlite.binding.get_host_cpu_features().flatten() if _features is None else _features)

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


class Vector(types.Type):
    """`n` vectors' worth of lanes of a float type."""

    def __init__(self, element, n):
        self.element, self.n, self.lanes = element, n, n * VECTOR * 8 // element.bitwidth
        super().__init__(name=f"Vector({element}, {n})")


def _of_lanes(element, lanes):
    """The vector with as many lanes as a tuple is long, whatever room they take."""
    return Vector(element, lanes.count * element.bitwidth // (VECTOR * 8))


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _llvm(fe_type))


def _real(element):
    return ir.DoubleType() if element.bitwidth == 64 else ir.FloatType()


def _llvm(vector):
    return ir.VectorType(_real(vector.element), vector.lanes)


def _constant(vector, value):
    return ir.Constant(_llvm(vector), [value] * vector.lanes)


def _call(builder, name, vector, *args):
    """LLVM's intrinsic function `name` on vectors of one type."""
    suffix = f"v{vector.lanes}f{vector.element.bitwidth}"
    kind = ir.FunctionType(_llvm(vector), [_llvm(vector)] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}"), args)


def element_pointer(context, builder, array_type, array, offset):
    """The address of a flat array's element."""
    return builder.gep(context.make_array(array_type)(context, builder, value=array).data, [offset])


def _vector_pointer(context, builder, array_type, array, offset, vector):
    return builder.bitcast(element_pointer(context, builder, array_type, array, offset), _llvm(vector).as_pointer())


def _splat(builder, vector, value):
    undefined = ir.Constant(_llvm(vector), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, vector.lanes), [0] * vector.lanes))


# --- Memory ----------------------------------------------------------------------------------------------------------
@intrinsic
def vload(_, array, offset, n):
    """The vector that starts at element `offset` of a flat array."""
    vector = Vector(array.dtype, n.count)

    def codegen(context, builder, signature, args):
        load = builder.load(_vector_pointer(context, builder, array, args[0], args[1], vector))
        load.align = array.dtype.bitwidth // 8
        return load

    return vector(array, types.int64, n), codegen


@intrinsic
def vload_part(_, array, offset, count, n):
    """The first `count` lanes of `vload`, 0 in the others, whose memory is not touched."""
    vector = Vector(array.dtype, n.count)

    def codegen(context, builder, signature, args):
        kind, lanes = _llvm(vector), ir.VectorType(_I64, vector.lanes)
        mask_kind = ir.VectorType(_I1, vector.lanes)
        undefined = ir.Constant(lanes, ir.Undefined)
        count = builder.insert_element(undefined, args[2], ir.Constant(_I32, 0))
        count = builder.shuffle_vector(count, undefined, ir.Constant(ir.VectorType(_I32, vector.lanes), None))
        mask = builder.icmp_signed("<", ir.Constant(lanes, list(range(vector.lanes))), count)
        pointer = _vector_pointer(context, builder, array, args[0], args[1], vector)
        name = f"llvm.masked.load.v{vector.lanes}f{array.dtype.bitwidth}.p0"
        function = ir.FunctionType(kind, [pointer.type, _I32, mask_kind, kind])
        align = ir.Constant(_I32, array.dtype.bitwidth // 8)
        load = cgutils.get_or_insert_function(builder.module, function, name)
        return builder.call(load, [pointer, align, mask, _constant(vector, 0.0)])

    return vector(array, types.int64, types.int64, n), codegen


@intrinsic
def vstore(_, array, offset, value):
    """Write a vector to a flat array from element `offset` on."""

    def codegen(context, builder, signature, args):
        store = builder.store(args[2], _vector_pointer(context, builder, array, args[0], args[1], value))
        store.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


@intrinsic
def load(_, array, offset):
    """Element `offset`, 0 or more, of a flat array.

    ``array[offset]`` would first ask whether the offset is negative, to count it from the end then: too much for a loop
    of five instructions.
    """

    def codegen(context, builder, signature, args):
        return builder.load(element_pointer(context, builder, array, *args))

    return array.dtype(array, types.int64), codegen


@intrinsic
def load_as(_, array, offset, like):
    """Element `offset` of a flat array of numbers, converted to the dtype of the array `like`.

    A byte is looked up in a table of 1 or 2 KB, which stays in the first-level cache: a load of the number into every
    lane, where converting it would take two instructions and spreading it a third, of those that multiply, too.
    """
    target = like.dtype

    def codegen(context, builder, signature, args):
        value = builder.load(element_pointer(context, builder, array, args[0], args[1]))
        if array.dtype != types.uint8:
            return context.cast(builder, value, array.dtype, target)
        table = _numbers_of_bytes(builder.module, target)
        return builder.load(builder.gep(table, [_I64(0), builder.zext(value, _I64)]))

    return target(array, types.int64, like), codegen


@intrinsic
def vload_as(_, array, offset, like, lanes):
    """As many elements of a flat array as the tuple `lanes` is long, converted to the dtype of the array `like`."""
    vector = _of_lanes(like.dtype, lanes)

    def codegen(context, builder, signature, args):
        whole = isinstance(array.dtype, types.Integer)
        element = ir.IntType(array.dtype.bitwidth) if whole else _real(array.dtype)
        kind = ir.VectorType(element, vector.lanes)
        pointer = element_pointer(context, builder, array, args[0], args[1])
        value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
        value.align = array.dtype.bitwidth // 8
        if whole:
            return builder.uitofp(value, _llvm(vector))
        if array.dtype == like.dtype:
            return value
        return (builder.fptrunc if array.dtype.bitwidth == 64 else builder.fpext)(value, _llvm(vector))

    return vector(array, types.int64, like, lanes), codegen


def _numbers_of_bytes(module, element):
    """A constant array of 0 to 255 in a float type, one a module."""
    name, kind = f"fastnn.bytes.f{element.bitwidth}", ir.ArrayType(_real(element), 256)
    if name in module.globals:
        return module.globals[name]
    table = cgutils.add_global_variable(module, kind, name)
    table.global_constant, table.linkage, table.align = True, "internal", VECTOR
    table.initializer = ir.Constant(kind, [float(k) for k in range(256)])
    return table


@intrinsic
def prefetch(_, array, offset):
    """Ask for the cache line of element `offset` of a flat array, to be read soon."""

    def codegen(context, builder, signature, args):
        pointer = builder.bitcast(element_pointer(context, builder, array, *args), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        reading, kept_close, data = (ir.Constant(_I32, number) for number in (0, 3, 1))
        builder.call(function, [pointer, reading, kept_close, data])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


# --- Arithmetic ------------------------------------------------------------------------------------------------------
@intrinsic
def vsplat(_, value, n):
    """A vector whose lanes are all `value`."""
    vector = Vector(value, n.count)
    return vector(value, n), lambda context, builder, signature, args: _splat(builder, vector, args[0])


@intrinsic
def vzero(_, array, n):
    """Zeros of the array's dtype."""
    vector = Vector(array.dtype, n.count)
    return vector(array, n), lambda context, builder, signature, args: _constant(vector, 0.0)


@intrinsic
def vfma(_, x, y, z):
    """``x * y + z``, rounded once."""
    return x(x, x, x), lambda context, builder, signature, args: _call(builder, "fma", x, *args)


@intrinsic
def vscale_add(_, factor, x, z):
    """``factor * x + z`` with a number and two vectors, rounded once."""

    def codegen(context, builder, signature, args):
        return _call(builder, "fma", x, _splat(builder, x, args[0]), args[1], args[2])

    return x(x.element, x, x), codegen


def _binary(name):
    @intrinsic
    def operation(_, x, y):
        return x(x, x), lambda context, builder, signature, args: getattr(builder, name)(*args)

    return operation


vadd, vsub, vmul, vdiv = _binary("fadd"), _binary("fsub"), _binary("fmul"), _binary("fdiv")


@intrinsic
def vrelu(_, x):
    """``max(x, 0)``; NaN stays NaN."""

    def codegen(context, builder, signature, args):
        zero = _constant(x, 0.0)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return x(x), codegen


@intrinsic
def vwhere_positive(_, test, value):
    """`value` in the lanes where `test` is above 0, else 0."""

    def codegen(context, builder, signature, args):
        zero = _constant(test, 0.0)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], zero)

    return test(test, test), codegen


@intrinsic
def vsqrt(_, x):
    """The square root of each lane."""
    return x(x), lambda context, builder, signature, args: _call(builder, "sqrt", x, *args)


@intrinsic
def vsum(_, x):
    """The sum of all lanes, a power of 2 of them, added in a tree of a fixed shape: the same bits on every CPU."""

    def codegen(context, builder, signature, args):
        value, lanes = args[0], x.lanes
        while lanes > 1:
            lanes //= 2
            mask = [*range(lanes, 2 * lanes), *[0] * (x.lanes - lanes)]  # what the other lanes hold does not count
            other = builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(_I32, x.lanes), mask))
            value = builder.fadd(value, other)
        return builder.extract_element(value, ir.Constant(_I32, 0))

    return x.element(x), codegen


@intrinsic
def vlarger(_, x, y):
    """Lane by lane the larger of two; of a number and NaN the number."""
    return x(x, x), lambda context, builder, signature, args: _call(builder, "maxnum", x, *args)


@intrinsic
def vwhere_equal(_, x, y, value, other):
    """`value` in the lanes where x and y are equal, else `other`."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], args[3])

    return x(x, x, x, x), codegen


@intrinsic
def vflush(_, x):
    """`x`, but 0 in the lanes whose numbers are below the smallest normal one; NaN stays NaN."""
    smallest = 2.0**-126 if x.element.bitwidth == 32 else 2.0**-1022

    def codegen(context, builder, signature, args):
        tiny = builder.fcmp_ordered("<", _call(builder, "fabs", x, args[0]), _constant(x, smallest))
        return builder.select(tiny, _constant(x, 0.0), args[0])

    return x(x), codegen


# exp(x) = 2**n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, exp(r) by its Taylor polynomial; the first term left out
# is below half a unit in the last place: r**8 / 8! and r**14 / 14!.
_DEGREE = {32: 7, 64: 13}
# ln 2 in two parts: n times the first, of few bits, is exact.
_LN2 = {32: (0.693359375, -2.121944400546905827679e-4), 64: (0.6931471803691238, 1.9082149292705877e-10)}
# 2**n is a normal number from the first to the second; beyond, exp becomes 0 or infinite.
_EXP_RANGE = {bits: (math.log(2) * low, math.log(2) * high) for bits, low, high in ((32, -126, 127), (64, -1022, 1023))}


@intrinsic
def vexp(_, x):
    """Exp of each lane, within 2 units in the last place; NaN stays NaN.

    Results below the smallest normal number are 0, and above 2**127 (float64: 2**1023) infinite.

    Numba has no vectorised exp any more (it came with Intel's SVML), and its scalar one would cost more than the rest
    of softmax.
    """
    bits = x.element.bitwidth
    low, high = _EXP_RANGE[bits]
    mantissa, bias = (23, 127) if bits == 32 else (52, 1023)
    integers = ir.VectorType(ir.IntType(bits), x.lanes)
    ln2_high, ln2_low = _LN2[bits]

    def codegen(context, builder, signature, args):
        (value,) = args
        limited = builder.select(builder.fcmp_ordered(">", value, _constant(x, high)), _constant(x, high), value)
        small = builder.fcmp_unordered("<", limited, _constant(x, low))  # NaN too: what follows must be defined
        limited = builder.select(small, _constant(x, low), limited)
        n = _call(builder, "rint", x, builder.fmul(limited, _constant(x, 1 / math.log(2))))
        r = _call(builder, "fma", x, n, _constant(x, -ln2_high), limited)
        r = _call(builder, "fma", x, n, _constant(x, -ln2_low), r)
        result = _constant(x, 1 / math.factorial(_DEGREE[bits]))
        for k in range(_DEGREE[bits] - 1, -1, -1):
            result = _call(builder, "fma", x, result, r, _constant(x, 1 / math.factorial(k)))
        exponent = builder.add(builder.fptosi(n, integers), ir.Constant(integers, [bias] * x.lanes))
        power = builder.bitcast(builder.shl(exponent, ir.Constant(integers, [mantissa] * x.lanes)), _llvm(x))
        result = builder.fmul(result, power)
        infinite = builder.fcmp_ordered(">", value, _constant(x, high))
        result = builder.select(infinite, _constant(x, math.inf), result)
        result = builder.select(builder.fcmp_ordered("<", value, _constant(x, low)), _constant(x, 0.0), result)
        return builder.select(builder.fcmp_unordered("uno", value, value), value, result)

    return x(x), codegen


# log(m) = 2 * atanh(f), f = (m - 1) / (m + 1), for m from sqrt(1/2) to sqrt(2), so |f| <= 0.172: the series of atanh,
# as many terms of f**2 as the first left out needs to be below a quarter of a unit in the last place.
_LOG_TERMS = {32: 5, 64: 11}


@intrinsic
def vlog(_, x):
    """Natural logarithm of each lane, a normal number above 0, within 2 units in the last place; NaN stays NaN, and
    infinity infinite.

    x = 2**n * m; n and m are cut out of the number's bits. Numba's own takes one number at a time.
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
        m = builder.bitcast(builder.sub(pattern, builder.shl(exponent, shift)), _llvm(x))
        n, one = builder.sitofp(exponent, _llvm(x)), _constant(x, 1.0)
        f = builder.fdiv(builder.fsub(m, one), builder.fadd(m, one))
        square, terms = builder.fmul(f, f), _LOG_TERMS[bits]
        series = _constant(x, 2 / (2 * terms - 1))
        for k in range(terms - 2, 0, -1):
            series = _call(builder, "fma", x, series, square, _constant(x, 2 / (2 * k + 1)))
        # 2 f + f * (the rest): the large term is added last, so that its rounding is the only one.
        result = _call(builder, "fma", x, n, _constant(x, ln2_low), builder.fmul(builder.fmul(f, square), series))
        result = builder.fadd(result, builder.fadd(f, f))
        result = _call(builder, "fma", x, n, _constant(x, ln2_high), result)
        ordinary = builder.fcmp_ordered("<", value, _constant(x, math.inf))
        return builder.select(ordinary, result, value)

    return x(x), codegen


# --- Bits and bytes --------------------------------------------------------------------------------------------------
@intrinsic
def trailing_zeros(_, word):
    """The position of the lowest set bit of a uint64 that is not 0."""

    def codegen(context, builder, signature, args):
        zero_is_undefined = ir.Constant(_I1, 1)
        return builder.cttz(args[0], zero_is_undefined)

    return types.int64(types.uint64), codegen


def _load_nonzero(context, builder, array_type, array, offset, n):
    """`n` elements of a flat array, and which of them are other than 0; NaN is."""
    dtype = array_type.dtype
    whole = isinstance(dtype, types.Integer)
    kind = ir.VectorType(ir.IntType(dtype.bitwidth) if whole else _real(dtype), n)
    pointer = element_pointer(context, builder, array_type, array, offset)
    load = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    load.align = dtype.bitwidth // 8
    zero = ir.Constant(kind, None if whole else [0.0] * n)
    return load, builder.icmp_signed("!=", load, zero) if whole else builder.fcmp_unordered("!=", load, zero)


@intrinsic
def nonzero_mask(_, array, offset):
    """Bit k of the result says whether element ``offset + k`` of a flat array is other than 0, k from 0 to 63."""

    def codegen(context, builder, signature, args):
        _, test = _load_nonzero(context, builder, array, args[0], args[1], 64)
        return builder.bitcast(test, _I64)

    return types.uint64(array, types.int64), codegen


@intrinsic
def list_nonzero(_, index, value, at, array, offset, first):
    """Append those of 16 elements of a flat array, or of 8 of 8 bytes, from `offset` on, that are other than 0.

    They, and their numbers, counted from `first`, go to ``value[at:]``, of the array's dtype, and ``index[at:]``, of an
    integer dtype, both flat and with room for all of them. Returns how many they are. No branch depends on the data, so
    there is nothing to predict. (More than one register's worth crashes LLVM.)
    """
    n, bits = VECTOR * 8 // max(32, array.dtype.bitwidth), ir.IntType(index.dtype.bitwidth)

    def codegen(context, builder, signature, args):
        index_, value_, at_, array_, offset_, first_ = args
        values, mask = _load_nonzero(context, builder, array, array_, offset_, n)
        numbers = ir.VectorType(bits, n)
        undefined = ir.Constant(numbers, ir.Undefined)
        start = builder.insert_element(undefined, builder.trunc(first_, bits), ir.Constant(_I32, 0))
        start = builder.shuffle_vector(start, undefined, ir.Constant(ir.VectorType(_I32, n), [0] * n))
        places = builder.add(start, ir.Constant(numbers, list(range(n))))
        for array_type, target, content in ((value, value_, values), (index, index_, places)):
            suffix = f"v{n}{'i' if isinstance(array_type.dtype, types.Integer) else 'f'}{array_type.dtype.bitwidth}"
            signature_ = ir.FunctionType(content.type, [content.type, mask.type, content.type])
            name = f"llvm.experimental.vector.compress.{suffix}"
            compress = cgutils.get_or_insert_function(builder.module, signature_, name)
            packed = builder.call(compress, [content, mask, ir.Constant(content.type, ir.Undefined)])
            pointer = element_pointer(context, builder, array_type, target, at_)
            store = builder.store(packed, builder.bitcast(pointer, content.type.as_pointer()))
            store.align = array_type.dtype.bitwidth // 8
        word = builder.zext(builder.bitcast(mask, ir.IntType(n)), _I64)
        return builder.ctpop(word)

    return types.int64(index, value, types.int64, array, types.int64, types.int64), codegen


@intrinsic
def transpose_tile(_, out, out_at, out_row, inp, places, first, column):
    """``out[out_at + c * out_row + r] = inp[places[first + r] + column + c]``, r and c from 0 to n - 1.

    n is how many elements of `inp` a vector holds: 64 bytes, 16 float32 or 8 float64. Rows are read where `places` says
    they start, so gathering and transposing are one pass. Each stage exchanges blocks of half the size between rows
    (Eklundh 1972); stages are done eight rows at a time, which fit in registers.
    """
    n = VECTOR * 8 // inp.dtype.bitwidth

    def codegen(context, builder, signature, args):
        out_, out_at_, out_row_, inp_, places_, first_, column_ = args
        whole = isinstance(inp.dtype, types.Integer)
        element = ir.IntType(inp.dtype.bitwidth) if whole else _real(inp.dtype)
        vector = ir.VectorType(element, n)
        align = inp.dtype.bitwidth // 8
        middle = cgutils.alloca_once(builder, ir.ArrayType(vector, n))

        def source(number, r):
            if number:
                return builder.gep(middle, [_I64(0), r])
            at = builder.load(element_pointer(context, builder, places, places_, builder.add(first_, r)))
            pointer = element_pointer(context, builder, inp, inp_, builder.add(at, column_))
            return builder.bitcast(pointer, vector.as_pointer())

        def target(number, r):
            if number < len(passes) - 1:
                return builder.gep(middle, [_I64(0), r])
            pointer = element_pointer(context, builder, out, out_, builder.add(out_at_, builder.mul(out_row_, r)))
            return builder.bitcast(pointer, vector.as_pointer())

        # A pass takes `height` rows at a time: every `stride`-th from some base on.
        height = min(n, 16) if n < 64 else 8
        passes = (
            [(8, [32, 16, 8]), (1, [4, 2, 1])] if n == 64 else [(1, [2**k for k in range(n.bit_length() - 2, -1, -1)])]
        )
        for number, (stride, distances) in enumerate(passes):
            with cgutils.for_range(builder, _I64(n // height)) as loop:
                base = loop.index if stride > 1 else builder.mul(loop.index, _I64(height))
                rows = [builder.add(base, _I64(stride * t)) for t in range(height)]
                values = []
                for r in rows:
                    values.append(builder.load(source(number, r)))
                    values[-1].align = align
                for distance in distances:
                    step = distance // stride
                    low = [k if not k & distance else n + k - distance for k in range(n)]
                    high = [k + distance if not k & distance else n + k for k in range(n)]
                    masks = [ir.Constant(ir.VectorType(_I32, n), mask) for mask in (low, high)]
                    for t in range(height):
                        if not t & step:
                            pair = values[t], values[t + step]
                            values[t], values[t + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
                for r, value in zip(rows, values, strict=True):
                    builder.store(value, target(number, r)).align = align
        return context.get_dummy_value()

    return types.void(out, types.int64, types.int64, inp, places, types.int64, types.int64), codegen


# --- Several sums at once ---------------------------------------------------------------------------------------------
@intrinsic
def vzeros(_, array, lanes, rows):
    """A tuple of vectors of zeros of the array's dtype: as many as the tuple `rows` is long, with as many lanes as
    `lanes` is.
    """
    sums = types.UniTuple(_of_lanes(array.dtype, lanes), rows.count)

    def codegen(context, builder, signature, args):
        return context.make_tuple(builder, sums, [_constant(sums.dtype, 0.0)] * rows.count)

    return sums(array, lanes, rows), codegen


def _add_products(context, builder, sums, value, x, factor):
    """The tuple ``sums[u] + x * factor(u)``."""
    added = [
        _call(builder, "fma", sums.dtype, factor(u), x, builder.extract_value(value, u)) for u in range(sums.count)
    ]
    return context.make_tuple(builder, sums, added)


@intrinsic
def vadd_scaled(_, sums, array, offset, x):
    """``sums[u] + array[offset + u] * x`` for each of a tuple of sums, with numbers and a vector."""

    def codegen(context, builder, signature, args):
        def factor(u):
            number = element_pointer(context, builder, array, args[1], builder.add(args[2], _I64(u)))
            return _splat(builder, x, builder.load(number))

        return _add_products(context, builder, sums, args[0], args[3], factor)

    return sums(sums, array, types.int64, x), codegen


@intrinsic
def vadd_products(_, sums, array, offset, x):
    """``sums[u] + x * y[u]`` for each of a tuple of sums, the vectors y one after the other in a flat array."""

    def codegen(context, builder, signature, args):
        def factor(u):
            at = builder.add(args[2], _I64(u * x.lanes))
            y = builder.load(_vector_pointer(context, builder, array, args[1], at, x))
            y.align = array.dtype.bitwidth // 8
            return y

        return _add_products(context, builder, sums, args[0], args[3], factor)

    return sums(sums, array, types.int64, x), codegen


@intrinsic
def vstore_all(_, array, offset, sums):
    """Write a tuple of vectors to a flat array, one after the other."""
    vector = sums.dtype

    def codegen(context, builder, signature, args):
        for u in range(sums.count):
            at = builder.add(args[1], _I64(u * vector.lanes))
            pointer = _vector_pointer(context, builder, array, args[0], at, vector)
            builder.store(builder.extract_value(args[2], u), pointer).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.int64, sums), codegen


@intrinsic
def vsum_each(_, sums):
    """A vector whose lane u is the sum of the lanes of ``sums[u]``, 0 beyond the last; not more of them than lanes.

    As in transposing, pairs exchange half of their lanes, but what would be two vectors is added to one at once: for
    ten, 19 additions in all instead of 4 for each, and the same bits on every CPU.
    """
    vector, n = sums.dtype, sums.dtype.lanes

    def codegen(context, builder, signature, args):
        zero = _constant(vector, 0.0)
        values, distance = [builder.extract_value(args[0], u) for u in range(sums.count)], 1
        while distance < n:
            low = [k if not k & distance else n + k - distance for k in range(n)]
            high = [k + distance if not k & distance else n + k for k in range(n)]
            masks = [ir.Constant(ir.VectorType(_I32, n), mask) for mask in (low, high)]
            pairs = [(values[k], values[k + 1] if k + 1 < len(values) else zero) for k in range(0, len(values), 2)]
            values = [builder.fadd(*(builder.shuffle_vector(*pair, mask) for mask in masks)) for pair in pairs]
            distance *= 2
        return values[0]

    return vector(sums), codegen


# --- A tile of a matrix product --------------------------------------------------------------------------------------
@intrinsic
def tile(_, out, out_at, out_row, left, left_at, left_row, left_k, right, right_at, right_row, depth, rows, n, add):
    """``out[r] (+)= sum over k < depth of left[r, k] * right[k]`` for as many r as the tuple `rows` is long.

    All arrays are flat. out[r] and right[k] are vectors of `n`, at ``out_at + r * out_row`` and
    ``right_at + k * right_row``; left[r, k] is the number at ``left_at + r * left_row + k * left_k``. `add`: whether
    to add to `out` or to overwrite it. `depth` is 1 or more. The sums stay in registers throughout; the tile's
    height and width are parameters of the code that is generated, so no loop is unrolled by hand.
    """
    vector, height = Vector(out.dtype, n.count), rows.count
    numbers = [types.int64] * 3

    def codegen(context, builder, signature, args):
        out_, out_at_, out_row_, left_, left_at_, left_row_, left_k_, right_, right_at_, right_row_, depth_ = args[:11]
        add_ = args[13]
        c = [
            builder.bitcast(
                element_pointer(context, builder, out, out_, builder.add(out_at_, builder.mul(out_row_, _I64(r)))),
                _llvm(vector).as_pointer(),
            )
            for r in range(height)
        ]
        align = out.dtype.bitwidth // 8
        start = []
        for r in range(height):
            load = builder.load(c[r])
            load.align = align
            start.append(builder.select(add_, load, _constant(vector, 0.0)))
        entry, loop, done = builder.block, builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(_I64)
        k.add_incoming(_I64(0), entry)
        sums = [builder.phi(_llvm(vector)) for _ in range(height)]
        at = builder.add(right_at_, builder.mul(k, right_row_))
        row = builder.load(_vector_pointer(context, builder, right, right_, at, vector))
        row.align = align
        new = []
        for r in range(height):
            at = builder.add(left_at_, builder.add(builder.mul(left_row_, _I64(r)), builder.mul(k, left_k_)))
            value = builder.load(element_pointer(context, builder, left, left_, at))
            value = context.cast(builder, value, left.dtype, out.dtype)
            new.append(_call(builder, "fma", vector, _splat(builder, vector, value), row, sums[r]))
        following = builder.add(k, _I64(1))
        k.add_incoming(following, loop)
        for r in range(height):
            sums[r].add_incoming(start[r], entry)
            sums[r].add_incoming(new[r], loop)
        builder.cbranch(builder.icmp_signed("<", following, depth_), loop, done)
        builder.position_at_end(done)
        for r in range(height):
            builder.store(new[r], c[r]).align = align
        return context.get_dummy_value()

    places = (out, types.int64, types.int64, left, *numbers, right, types.int64, types.int64, types.int64)
    return types.void(*places, rows, n, types.boolean), codegen
