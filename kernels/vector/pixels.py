"""Vectors with one image per lane: random numbers of a pixel, and the pixels around a place of each image."""

from fastnn.kernels.compiler.lazy import cgutils, ir, types
from fastnn.kernels.jit import intrinsic
from fastnn.kernels.vector.simd import constant, element_pointer, llvm_number, llvm_vector, splat, vectors


def _integers(vector):
    """The LLVM type of as many 32-bit integers as a vector has lanes."""
    return ir.VectorType(ir.I32, vector.lanes)


def _all_lanes(builder, kind, value):
    """The LLVM value `value` in every lane of a vector of integers."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(kind, [0] * kind.count))


def _hashes(context, builder, vector, numbers, args):
    """`dropout.unit_hash` of one unit of as many rows as `vector` has lanes. `args`: numbers, offset, unit."""
    kind = _integers(vector)
    pointer = element_pointer(context, builder, numbers, args[0], args[1])
    x = builder.load(pointer, align=4, typ=kind)
    unit = builder.mul(builder.trunc(args[2], ir.I32), ir.Constant(ir.I32, 0x9E3779B1))
    x = builder.add(x, _all_lanes(builder, kind, unit))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = builder.xor(x, builder.lshr(x, ir.Constant(kind, [shift] * kind.count)))
        x = builder.mul(x, ir.Constant(kind, [factor] * kind.count))
    return builder.xor(x, builder.lshr(x, ir.Constant(kind, [16] * kind.count)))


def _gather(builder, base, element, index):
    """The elements of LLVM type `element` at the indices from `base` on."""
    lanes = index.type.count
    pointers = builder.gep(base, [index], source_etype=element)
    pointers.type = ir.VectorType(ir.PointerType(), lanes)
    kind, mask = ir.VectorType(element, lanes), ir.VectorType(ir.I1, lanes)
    letter, width = "f", 64 if element == ir.DoubleType() else 32
    if isinstance(element, ir.IntType):
        letter = "i"
    name = f"llvm.masked.gather.v{lanes}{letter}{width}.v{lanes}p0"
    function = ir.FunctionType(kind, [pointers.type, ir.I32, mask, kind])
    gather = cgutils.get_or_insert_function(builder.module, function, name)
    every = ir.Constant(mask, [1] * lanes)
    return builder.call(gather, [pointers, ir.Constant(ir.I32, width // 8), every, ir.Constant(kind, ir.Undefined)])


@intrinsic
def vdraw_pair(_, numbers, offset, unit, like):
    """Two vectors of whole numbers from -2**15 to 2**15 - 1: the lower and the upper half of each lane's hash.

    numbers: (N,) uint32, the row hashes; those of the lanes begin at `offset`
    unit: the unit of the hash
    like: an array of the vectors' dtype
    """
    vector = vectors(like.dtype, 1)
    pair = types.UniTuple(vector, 2)

    def codegen(context, builder, signature, args):
        hashes, kind = _hashes(context, builder, vector, numbers, args), _integers(vector)
        half = ir.Constant(kind, [16] * kind.count)
        halves = builder.ashr(builder.shl(hashes, half), half), builder.ashr(hashes, half)
        return context.make_tuple(builder, pair, [builder.sitofp(each, llvm_vector(vector)) for each in halves])

    return pair(numbers, types.int64, types.int64, like), codegen


@intrinsic
def vdraw_from(_, table, bits, numbers, offset, unit):
    """An element of a table for each lane; the index is the first `bits` bits of the lane's hash.

    table: (2**bits,)
    numbers, offset, unit: as for `vdraw_pair`
    """
    vector = vectors(table.dtype, 1)

    def codegen(context, builder, signature, args):
        hashes, kind = _hashes(context, builder, vector, numbers, args[2:]), _integers(vector)
        shift = builder.sub(ir.Constant(ir.I32, 32), builder.trunc(args[1], ir.I32))
        index = builder.lshr(hashes, _all_lanes(builder, kind, shift))
        base = element_pointer(context, builder, table, args[0], ir.I64(0))
        return _gather(builder, base, llvm_number(table.dtype), index)

    return vector(table, types.int64, numbers, types.int64, types.int64), codegen


@intrinsic
def vclip(_, x, high):
    """`x` limited to the numbers from 0 to `high`, a number."""

    def codegen(context, builder, signature, args):
        low, top = constant(x, 0.0), splat(builder, x, args[1])
        value = builder.select(builder.fcmp_ordered(">", args[0], low), args[0], low)
        return builder.select(builder.fcmp_ordered("<", value, top), value, top)

    return x(x, x.element), codegen


@intrinsic
def vlimit(_, x, low, high):
    """`x` limited to the numbers from `low` to `high`, both vectors."""

    def codegen(context, builder, signature, args):
        value = builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])
        return builder.select(builder.fcmp_ordered("<", value, args[2]), value, args[2])

    return x(x, x, x), codegen


@intrinsic
def vstore_corners(_, corners, offset, pixels, at, width):
    """Write what `vcorners` reads for as many pixels of an image as a vector of numbers has lanes.

    corners: uint32 for an image of bytes: a pixel, its right neighbour, the one below and the one below that to the
        right, from the lowest byte up. Otherwise the dtype of `pixels`: the pixels
    pixels: flat, an image and zeros, from `at` on
    width: the number of pixels in a row
    """
    lanes = 16 if corners.dtype.bitwidth == 32 else 8
    kind, stored = ir.VectorType(llvm_number(pixels.dtype), lanes), ir.VectorType(llvm_number(corners.dtype), lanes)

    def codegen(context, builder, signature, args):
        def load(distance):
            pointer = element_pointer(context, builder, pixels, args[2], builder.add(args[3], distance))
            return builder.load(pointer, align=pixels.dtype.bitwidth // 8, typ=kind)

        value = load(ir.I64(0))
        if corners.dtype != pixels.dtype:
            one, value = ir.I64(1), builder.zext(value, stored)
            for number, distance in enumerate((one, args[4], builder.add(args[4], one)), start=1):
                other = builder.zext(load(distance), stored)
                value = builder.or_(value, builder.shl(other, ir.Constant(stored, [8 * number] * lanes)))
        pointer = element_pointer(context, builder, corners, args[0], args[1])
        builder.store(value, pointer, align=corners.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(corners, types.int64, pixels, types.int64, types.int64), codegen


@intrinsic
def vcorners(_, corners, pitch, width, y, x):
    """The pixels around a place in each lane's image, and where the place is between them.

    Returns six vectors: the fractions of `y` and `x`; the pixel above and to the left of the place, its right
    neighbour, the one below it and the one below that to the right. One gather reads all four pixels of an image of
    bytes.

    corners: as `vstore_corners` writes them, image after image; the images are `pitch` elements apart
    y, x: 0 or more, vectors, in the image
    """
    result = types.UniTuple(x, 6)

    def codegen(context, builder, signature, args):
        corners_, pitch_, width_, y_, x_ = args
        kind, real, element = _integers(x), llvm_vector(x), llvm_number(corners.dtype)
        row, column = builder.fptosi(y_, kind), builder.fptosi(x_, kind)
        down, across = (builder.fsub(each, builder.sitofp(whole, real)) for each, whole in ((y_, row), (x_, column)))
        image = _all_lanes(builder, kind, builder.trunc(pitch_, ir.I32))
        image = builder.mul(image, ir.Constant(kind, list(range(kind.count))))
        index = builder.mul(row, _all_lanes(builder, kind, builder.trunc(width_, ir.I32)))
        index = builder.add(builder.add(index, column), image)

        def pixels(distance):
            base = element_pointer(context, builder, corners, corners_, distance)
            return _gather(builder, base, element, index)

        if isinstance(corners.dtype, types.Integer):
            four, byte, values = pixels(ir.I64(0)), ir.Constant(kind, [255] * kind.count), []
            for number in range(4):
                shifted = builder.lshr(four, ir.Constant(kind, [8 * number] * kind.count))
                values.append(builder.sitofp(builder.and_(shifted, byte), real))
        else:
            one = ir.I64(1)
            values = [pixels(each) for each in (ir.I64(0), one, width_, builder.add(width_, one))]
        return context.make_tuple(builder, result, [down, across, *values])

    return result(corners, types.int64, types.int64, x, x), codegen


@intrinsic
def vstore_apart(_, array, offset, distance, value):
    """Write each of the vectors of `value` to a flat array, from `offset` on and `distance` elements apart."""
    one = vectors(value.element, 1)

    def codegen(context, builder, signature, args):
        for k in range(value.n):
            mask = ir.Constant(_integers(one), list(range(k * one.lanes, (k + 1) * one.lanes)))
            part = builder.shuffle_vector(args[3], args[3], mask)
            at = builder.add(args[1], builder.mul(args[2], ir.I64(k)))
            pointer = element_pointer(context, builder, array, args[0], at)
            builder.store(part, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), codegen


@intrinsic
def vstore_pixels(_, array, offset, value):
    """Write a vector to a flat array from `offset` on; to an array of bytes, rounded: ``value + 0.5`` truncated."""
    dtype = array.dtype

    def codegen(context, builder, signature, args):
        stored = args[2]
        if isinstance(dtype, types.Integer):
            half = constant(value, 0.5)
            kind = ir.VectorType(llvm_number(dtype), value.lanes)
            stored = builder.trunc(builder.fptosi(builder.fadd(stored, half), _integers(value)), kind)
        pointer = element_pointer(context, builder, array, args[0], args[1])
        builder.store(stored, pointer, align=dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen
