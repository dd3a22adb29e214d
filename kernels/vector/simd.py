"""Explicit vectors for Numba: their type, loads, stores and arithmetic.

In plain Numba loops, LLVM's auto-vectoriser falls short of what these kernels need: it checks at run time whether
arrays overlap, keeps sums in memory instead of registers, and prefers half the register width on AVX-512. The values
here are LLVM vectors. A vector of 64 bytes becomes one, two or four registers, depending on the CPU, so the same source
runs everywhere. The operations are generic: the dtype of an array decides between 16 lanes of float32 and 8 of float64.

The vector count is a compile-time constant. Numba specialises on a tuple's length, so ONE ... SIXTEEN are passed only
for their type.
"""

from fastnn.kernels.compiler.lazy import cgutils, ir, types
from fastnn.kernels.compiler.machine import host
from fastnn.kernels.jit import inlined, intrinsic

# The bytes of a vector: one register of AVX-512, two of AVX2, four of NEON.
VECTOR = 64
ONE, TWO, FOUR, FIVE, SIX, EIGHT, TEN, SIXTEEN = ((0,) * count for count in (1, 2, 4, 5, 6, 8, 10, 16))
# Whether a vector fits in one register of the CPU that kernels are compiled for.
WHOLE_REGISTERS = host().has_whole_registers


def vectors(element, n):
    """The Numba type of `n` vectors of 64 bytes, treated as one value, with lanes of the float type `element`."""
    from fastnn.kernels.vector.vector_type import Vector

    return Vector(element, n)


def of_lanes(element, lanes):
    """The type of vectors whose lane count is the length of the tuple type `lanes`."""
    return vectors(element, lanes.count * element.bitwidth // (VECTOR * 8))


# --- Helpers for intrinsics ------------------------------------------------------------------------------------------
def llvm_number(dtype):
    """The LLVM type of a Numba integer or float type."""
    if isinstance(dtype, types.Integer):
        return ir.IntType(dtype.bitwidth)
    return ir.DoubleType() if dtype.bitwidth == 64 else ir.FloatType()


def llvm_vector(vector):
    """The LLVM type of a `Vector`."""
    return ir.VectorType(llvm_number(vector.element), vector.lanes)


def constant(vector, value):
    """A constant whose lanes all equal the Python number `value`."""
    return ir.Constant(llvm_vector(vector), [value] * vector.lanes)


def call(builder, name, vector, *args):
    """Call the LLVM intrinsic `name`. All arguments and the result have the type `vector`."""
    suffix = f"v{vector.lanes}f{vector.element.bitwidth}"
    kind = ir.FunctionType(llvm_vector(vector), [llvm_vector(vector)] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}"), args)


def multiply_add(builder, vector, x, y, z):
    """``x * y + z``, rounded once on CPUs with an instruction for that, and twice on others.

    LLVM's `fma` would call the C library for each lane on the others (x86-64-v2), which takes 16 times as long.
    """
    return call(builder, "fmuladd", vector, x, y, z)


def address(builder, base, kind, *indices):
    """The address of a part of the object of LLVM type `kind` at `base`, as an opaque pointer."""
    pointer = builder.gep(base, indices, source_etype=kind)
    pointer.type = ir.PointerType()  # llvmlite copies the type of `base`, which Numba may still declare as typed
    return pointer


def element_pointer(context, builder, array_type, array, offset):
    """The address of element `offset` of a flat array, as an opaque pointer."""
    data = context.make_array(array_type)(context, builder, value=array).data
    return address(builder, data, llvm_number(array_type.dtype), offset)


def splat(builder, vector, value):
    """A vector whose lanes all equal the LLVM value `value`."""
    undefined = ir.Constant(llvm_vector(vector), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.I32, 0))
    first_lane = ir.Constant(ir.VectorType(ir.I32, vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(first, undefined, first_lane)


@inlined
def lanes(array):
    """The number of elements of the array's dtype in one vector."""
    return VECTOR // array.itemsize


# --- Memory ----------------------------------------------------------------------------------------------------------
@intrinsic
def vload(_, array, offset, n):
    """`n` vectors that start at element `offset` of a flat array."""
    vector = vectors(array.dtype, n.count)

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, array, *args[:2])
        return builder.load(pointer, align=array.dtype.bitwidth // 8, typ=llvm_vector(vector))

    return vector(array, types.int64, n), codegen


@intrinsic
def vload_part(_, array, offset, count, n):
    """The first `count` lanes of `vload`. The other lanes are 0, and their memory is not read."""
    vector = vectors(array.dtype, n.count)

    def codegen(context, builder, signature, args):
        kind, lanes = llvm_vector(vector), ir.VectorType(ir.I64, vector.lanes)
        mask_kind = ir.VectorType(ir.I1, vector.lanes)
        undefined = ir.Constant(lanes, ir.Undefined)
        count = builder.insert_element(undefined, args[2], ir.Constant(ir.I32, 0))
        count = builder.shuffle_vector(count, undefined, ir.Constant(ir.VectorType(ir.I32, vector.lanes), None))
        mask = builder.icmp_signed("<", ir.Constant(lanes, list(range(vector.lanes))), count)
        pointer = element_pointer(context, builder, array, args[0], args[1])
        name = f"llvm.masked.load.v{vector.lanes}f{array.dtype.bitwidth}.p0"
        function = ir.FunctionType(kind, [pointer.type, ir.I32, mask_kind, kind])
        align = ir.Constant(ir.I32, array.dtype.bitwidth // 8)
        load = cgutils.get_or_insert_function(builder.module, function, name)
        return builder.call(load, [pointer, align, mask, constant(vector, 0.0)])

    return vector(array, types.int64, types.int64, n), codegen


@intrinsic
def vstore(_, array, offset, value):
    """Write a vector to a flat array, starting at element `offset`."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, array, args[0], args[1])
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


@intrinsic
def load(_, array, offset):
    """Element `offset` of a flat array. `offset` must not be negative.

    ``array[offset]`` would first test for a negative offset, which counts from the end. That is too slow in a loop of
    five instructions.
    """

    def codegen(context, builder, signature, args):
        return builder.load(element_pointer(context, builder, array, *args), typ=llvm_number(array.dtype))

    return array.dtype(array, types.int64), codegen


@intrinsic
def store(_, array, offset, value):
    """Write element `offset` of a flat array, which must not be negative: the counterpart of `load`."""

    def codegen(context, builder, signature, args):
        number = context.cast(builder, args[2], value, array.dtype)
        builder.store(number, element_pointer(context, builder, array, *args[:2]))
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


@intrinsic
def load_as(_, array, offset, like):
    """Element `offset` of a flat array, converted to the dtype of the array `like`.

    A byte is looked up in a table of 1 or 2 KB, which stays in the first-level cache. One load then brings the number
    into every lane. Without the table, two instructions would convert the byte and a third would copy it to every lane.
    They would compete with the multiplications for execution units.
    """
    target = like.dtype

    def codegen(context, builder, signature, args):
        value = builder.load(element_pointer(context, builder, array, *args[:2]), typ=llvm_number(array.dtype))
        if array.dtype != types.uint8:
            return context.cast(builder, value, array.dtype, target)
        table = _numbers_of_bytes(builder.module, target)
        number = llvm_number(target)
        return builder.load(address(builder, table, number, builder.zext(value, ir.I64)), typ=number)

    return target(array, types.int64, like), codegen


@intrinsic
def vload_as(_, array, offset, like, lanes):
    """A vector of elements of a flat array, from `offset` on, converted to the dtype of the array `like`.

    The length of the tuple `lanes` is the number of elements.
    """
    vector = of_lanes(like.dtype, lanes)

    def codegen(context, builder, signature, args):
        kind = ir.VectorType(llvm_number(array.dtype), vector.lanes)
        pointer = element_pointer(context, builder, array, args[0], args[1])
        value = builder.load(pointer, align=array.dtype.bitwidth // 8, typ=kind)
        if isinstance(array.dtype, types.Integer):
            return builder.uitofp(value, llvm_vector(vector))
        if array.dtype == like.dtype:
            return value
        return (builder.fptrunc if array.dtype.bitwidth == 64 else builder.fpext)(value, llvm_vector(vector))

    return vector(array, types.int64, like, lanes), codegen


@intrinsic
def vstore_as(_, array, offset, value):
    """Write a vector to a flat array of float32 or float64, from `offset` on, converted to the array's dtype."""

    def codegen(context, builder, signature, args):
        bits = array.dtype.bitwidth
        stored = args[2]
        if bits != value.element.bitwidth:
            kind = ir.VectorType(llvm_number(array.dtype), value.lanes)
            stored = (builder.fptrunc if bits == 32 else builder.fpext)(stored, kind)
        builder.store(stored, element_pointer(context, builder, array, args[0], args[1]), align=bits // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


def _numbers_of_bytes(module, element):
    """The constant array of the numbers 0 to 255 in a float type, created once per LLVM module."""
    name, kind = f"fastnn.bytes.f{element.bitwidth}", ir.ArrayType(llvm_number(element), 256)
    if name in module.globals:
        return module.globals[name]
    table = cgutils.add_global_variable(module, kind, name)
    table.global_constant, table.linkage, table.align = True, "internal", VECTOR
    table.initializer = ir.Constant(kind, [float(k) for k in range(256)])
    return table


def _prefetch(context, builder, array, args, locality):
    """Prefetch the cache line of element ``args[1]`` of a flat array of Numba type `array`."""
    pointer = element_pointer(context, builder, array, *args)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, ir.I32, ir.I32, ir.I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    reading, data = ir.Constant(ir.I32, 0), ir.Constant(ir.I32, 1)
    builder.call(function, [pointer, reading, ir.Constant(ir.I32, locality), data])
    return context.get_dummy_value()


@intrinsic
def prefetch(_, array, offset):
    """Prefetch the cache line of element `offset` of a flat array, which will be read soon."""

    def codegen(context, builder, signature, args):
        return _prefetch(context, builder, array, args, 3)

    return types.void(array, types.int64), codegen


@intrinsic
def prefetch_far(_, array, offset):
    """Prefetch the cache line of element `offset` of a flat array into the second-level cache."""

    def codegen(context, builder, signature, args):
        return _prefetch(context, builder, array, args, 2)

    return types.void(array, types.int64), codegen


# --- Arithmetic ------------------------------------------------------------------------------------------------------
@intrinsic
def vsplat(_, value, n):
    """`n` vectors whose lanes all equal `value`."""
    vector = vectors(value, n.count)
    return vector(value, n), lambda context, builder, signature, args: splat(builder, vector, args[0])


@intrinsic
def vzero(_, array, n):
    """`n` vectors of zeros of the array's dtype."""
    vector = vectors(array.dtype, n.count)
    return vector(array, n), lambda context, builder, signature, args: constant(vector, 0.0)


@intrinsic
def vfma(_, x, y, z):
    """``x * y + z``, rounded as by `multiply_add`."""
    return x(x, x, x), lambda context, builder, signature, args: multiply_add(builder, x, *args)


@intrinsic
def vscale_add(_, factor, x, z):
    """``factor * x + z``, rounded as by `multiply_add`, for a number `factor` and vectors `x` and `z`."""

    def codegen(context, builder, signature, args):
        return multiply_add(builder, x, splat(builder, x, args[0]), args[1], args[2])

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
        zero = constant(x, 0.0)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return x(x), codegen


@intrinsic
def vwhere_positive(_, test, value):
    """`value` in the lanes where `test` is positive, 0 in the others."""

    def codegen(context, builder, signature, args):
        zero = constant(test, 0.0)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], zero)

    return test(test, test), codegen


@intrinsic
def vsqrt(_, x):
    """The square root of each lane."""
    return x(x), lambda context, builder, signature, args: call(builder, "sqrt", x, *args)


@intrinsic
def vsum(_, x):
    """The sum of all lanes. The number of lanes must be a power of 2.

    The lanes are added in a tree of fixed shape, so the bits are the same on every CPU.
    """

    def codegen(context, builder, signature, args):
        value, lanes = args[0], x.lanes
        while lanes > 1:
            lanes //= 2
            mask = [*range(lanes, 2 * lanes), *[0] * (x.lanes - lanes)]  # the other lanes are not used
            other = builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(ir.I32, x.lanes), mask))
            value = builder.fadd(value, other)
        return builder.extract_element(value, ir.Constant(ir.I32, 0))

    return x.element(x), codegen


@intrinsic
def vlarger(_, x, y):
    """The larger of `x` and `y` in each lane. If one of them is NaN, the result is the other."""
    return x(x, x), lambda context, builder, signature, args: call(builder, "maxnum", x, *args)


@intrinsic
def vwhere_equal(_, x, y, value, other):
    """`value` in the lanes where `x` equals `y`, `other` in the others."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], args[3])

    return x(x, x, x, x), codegen


@intrinsic
def vflush(_, x):
    """`x` with subnormal numbers replaced by 0. NaN stays NaN."""
    smallest = 2.0**-126 if x.element.bitwidth == 32 else 2.0**-1022

    def codegen(context, builder, signature, args):
        tiny = builder.fcmp_ordered("<", call(builder, "fabs", x, args[0]), constant(x, smallest))
        return builder.select(tiny, constant(x, 0.0), args[0])

    return x(x), codegen
