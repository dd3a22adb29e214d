"""Several vector sums at once, held as one tuple of vectors."""

from fastnn.kernels.compiler.lazy import ir, types
from fastnn.kernels.jit import intrinsic
from fastnn.kernels.vector.simd import constant, element_pointer, llvm_vector, multiply_add, of_lanes, splat


@intrinsic
def vzeros(_, array, lanes, rows):
    """A tuple of vectors of zeros of the array's dtype.

    The length of the tuple `rows` is the number of vectors. The length of the tuple `lanes` is the number of lanes of
    each vector.
    """
    sums = types.UniTuple(of_lanes(array.dtype, lanes), rows.count)

    def codegen(context, builder, signature, args):
        return context.make_tuple(builder, sums, [constant(sums.dtype, 0.0)] * rows.count)

    return sums(array, lanes, rows), codegen


def _add_products(context, builder, sums, value, x, factor):
    """The tuple of ``sums[u] + x * factor(u)``."""
    added = [
        multiply_add(builder, sums.dtype, factor(u), x, builder.extract_value(value, u)) for u in range(sums.count)
    ]
    return context.make_tuple(builder, sums, added)


@intrinsic
def vadd_scaled(_, sums, array, offset, x):
    """The tuple of ``sums[u] + array[offset + u] * x``, for numbers in a flat array and a vector `x`."""

    def codegen(context, builder, signature, args):
        def factor(u):
            number = element_pointer(context, builder, array, args[1], builder.add(args[2], ir.I64(u)))
            return splat(builder, x, builder.load(number, typ=llvm_vector(x).element))

        return _add_products(context, builder, sums, args[0], args[3], factor)

    return sums(sums, array, types.int64, x), codegen


@intrinsic
def vadd_products(_, sums, array, offset, x):
    """The tuple of ``sums[u] + x * y[u]``. The vectors y are contiguous in a flat array, from `offset` on."""

    def codegen(context, builder, signature, args):
        def factor(u):
            at = builder.add(args[2], ir.I64(u * x.lanes))
            pointer = element_pointer(context, builder, array, args[1], at)
            return builder.load(pointer, align=array.dtype.bitwidth // 8, typ=llvm_vector(x))

        return _add_products(context, builder, sums, args[0], args[3], factor)

    return sums(sums, array, types.int64, x), codegen


@intrinsic
def vstore_all(_, array, offset, sums):
    """Write a tuple of vectors one after the other to a flat array, starting at element `offset`."""
    vector = sums.dtype

    def codegen(context, builder, signature, args):
        for u in range(sums.count):
            at = builder.add(args[1], ir.I64(u * vector.lanes))
            pointer = element_pointer(context, builder, array, args[0], at)
            builder.store(builder.extract_value(args[2], u), pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, sums), codegen


@intrinsic
def vsum_each(_, sums):
    """A vector whose lane u is the sum of the lanes of ``sums[u]``. Lanes beyond the last sum are 0.

    There must not be more sums than lanes. As in a transpose, pairs of vectors exchange half of their lanes; the two
    results are then added, which leaves one vector. Ten sums of 16 lanes take 11 additions in all instead of 4 each.
    The bits are the same on every CPU.
    """
    vector, n = sums.dtype, sums.dtype.lanes

    def codegen(context, builder, signature, args):
        zero = constant(vector, 0.0)
        values, distance = [builder.extract_value(args[0], u) for u in range(sums.count)], 1
        while distance < n:
            low = [k if not k & distance else n + k - distance for k in range(n)]
            high = [k + distance if not k & distance else n + k for k in range(n)]
            masks = [ir.Constant(ir.VectorType(ir.I32, n), mask) for mask in (low, high)]
            pairs = [(values[k], values[k + 1] if k + 1 < len(values) else zero) for k in range(0, len(values), 2)]
            values = [builder.fadd(*(builder.shuffle_vector(*pair, mask) for mask in masks)) for pair in pairs]
            distance *= 2
        return values[0]

    return vector(sums), codegen
