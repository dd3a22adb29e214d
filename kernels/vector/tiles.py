"""Transposed tiles, and tiles of a matrix product. The code is generated for each height and width."""

from fastnn.kernels.compiler.lazy import cgutils, ir, types
from fastnn.kernels.jit import intrinsic
from fastnn.kernels.vector.simd import (
    VECTOR,
    address,
    constant,
    element_pointer,
    llvm_number,
    llvm_vector,
    multiply_add,
    splat,
    vectors,
)


@intrinsic
def transpose_tile(_, out, out_at, out_row, inp, offsets, first, column):
    """Gather and transpose a tile of n x n elements in one pass.

    ``out[out_at + c * out_row + r] = inp[offsets[first + r] + column + c]`` for r and c from 0 to n - 1. n is the
    number of elements of `inp` in a vector: 64 of uint8, 16 of float32, 8 of float64.

    Faster than a loop over elements: it moves whole vectors. Each stage exchanges blocks of half the size between rows
    (Eklundh 1972). For n = 64 it processes eight rows at a time, which fit in registers.

    out: flat, the dtype of `inp`, the tile overwritten
    inp: flat
    offsets: flat, int64, the offset in `inp` of each row
    """
    n = VECTOR * 8 // inp.dtype.bitwidth

    def codegen(context, builder, signature, args):
        out_, out_at_, out_row_, inp_, offsets_, first_, column_ = args
        vector = ir.VectorType(llvm_number(inp.dtype), n)
        align = inp.dtype.bitwidth // 8
        middle = cgutils.alloca_once(builder, ir.ArrayType(vector, n))

        def source(number, r):
            if number:
                return address(builder, middle, vector, r)
            at = element_pointer(context, builder, offsets, offsets_, builder.add(first_, r))
            return element_pointer(context, builder, inp, inp_, builder.add(builder.load(at, typ=ir.I64), column_))

        def target(number, r):
            if number < len(passes) - 1:
                return address(builder, middle, vector, r)
            return element_pointer(context, builder, out, out_, builder.add(out_at_, builder.mul(out_row_, r)))

        # A pass processes `height` rows at a time, which are `stride` apart.
        height = min(n, 16) if n < 64 else 8
        passes = (
            [(8, [32, 16, 8]), (1, [4, 2, 1])] if n == 64 else [(1, [2**k for k in range(n.bit_length() - 2, -1, -1)])]
        )
        for number, (stride, distances) in enumerate(passes):
            with cgutils.for_range(builder, ir.I64(n // height)) as loop:
                base = loop.index if stride > 1 else builder.mul(loop.index, ir.I64(height))
                rows = [builder.add(base, ir.I64(stride * t)) for t in range(height)]
                values = []
                for r in rows:
                    values.append(builder.load(source(number, r), align=align, typ=vector))
                for distance in distances:
                    step = distance // stride
                    low = [k if not k & distance else n + k - distance for k in range(n)]
                    high = [k + distance if not k & distance else n + k for k in range(n)]
                    masks = [ir.Constant(ir.VectorType(ir.I32, n), mask) for mask in (low, high)]
                    for t in range(height):
                        if not t & step:
                            pair = values[t], values[t + step]
                            values[t], values[t + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
                for r, value in zip(rows, values, strict=True):
                    builder.store(value, target(number, r), align=align)
        return context.get_dummy_value()

    return types.void(out, types.int64, types.int64, inp, offsets, types.int64, types.int64), codegen


@intrinsic
def tile(_, out, left, right, depth, rows, n, add):
    """One tile of a matrix product: ``out[r] (+)= sum over k < depth of left[r, k] * right[k]``.

    The length of the tuple `rows` is the height of the tile, the length of the tuple `n` its width in vectors. `depth`
    must be 1 or more. If `add` is true, the product is added to `out`, otherwise it overwrites `out`.

    Faster than a loop over elements: the sums stay in registers throughout. Height and width are parameters of the
    generated code, so no loop is unrolled by hand.

    out: a `layout.View`; row r begins with the vectors ``out[r]``
    left: a `layout.Matrix` of the numbers ``left[r, k]``
    right: a `layout.View`; row k begins with the vectors ``right[k]``
    """
    signature = types.void(out, left, right, types.int64, rows, n, types.boolean)
    out, left, right = out.types[0], left.types[0], right.types[0]  # the arrays
    vector, height = vectors(out.dtype, n.count), rows.count

    def codegen(context, builder, signature, args):
        out_, out_at_, out_row_ = cgutils.unpack_tuple(builder, args[0])
        left_, left_at_, left_row_, left_k_ = cgutils.unpack_tuple(builder, args[1])
        right_, right_at_, right_row_ = cgutils.unpack_tuple(builder, args[2])
        depth_, add_ = args[3], args[6]
        c = [
            element_pointer(context, builder, out, out_, builder.add(out_at_, builder.mul(out_row_, ir.I64(r))))
            for r in range(height)
        ]
        align = out.dtype.bitwidth // 8
        start = []
        for r in range(height):
            load = builder.load(c[r], align=align, typ=llvm_vector(vector))
            start.append(builder.select(add_, load, constant(vector, 0.0)))
        entry, loop, done = builder.block, builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(ir.I64)
        k.add_incoming(ir.I64(0), entry)
        sums = [builder.phi(llvm_vector(vector)) for _ in range(height)]
        at = builder.add(right_at_, builder.mul(k, right_row_))
        row = element_pointer(context, builder, right, right_, at)
        row = builder.load(row, align=align, typ=llvm_vector(vector))
        new = []
        for r in range(height):
            at = builder.add(left_at_, builder.add(builder.mul(left_row_, ir.I64(r)), builder.mul(k, left_k_)))
            value = element_pointer(context, builder, left, left_, at)
            value = builder.load(value, typ=llvm_number(left.dtype))
            value = context.cast(builder, value, left.dtype, out.dtype)
            new.append(multiply_add(builder, vector, splat(builder, vector, value), row, sums[r]))
        following = builder.add(k, ir.I64(1))
        k.add_incoming(following, loop)
        for r in range(height):
            sums[r].add_incoming(start[r], entry)
            sums[r].add_incoming(new[r], loop)
        builder.cbranch(builder.icmp_signed("<", following, depth_), loop, done)
        builder.position_at_end(done)
        for r in range(height):
            builder.store(new[r], c[r], align=align)
        return context.get_dummy_value()

    return signature, codegen
