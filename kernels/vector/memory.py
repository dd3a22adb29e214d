"""Arrays within kernels: views of others, at addresses, and in memory that a kernel allocates and releases itself."""

from fastnn.kernels.compiler.lazy import arrayobj, cgutils, ir, types
from fastnn.kernels.jit import intrinsic


@intrinsic
def flattened(_, array):
    """A C-contiguous array as one row. Numba's `reshape` would call a function of Numba's at run time."""
    result = types.Array(array.dtype, 1, "C", readonly=not array.mutable)

    def codegen(context, builder, signature, args):
        parts = context.make_array(array)(context, builder, value=args[0])
        return _row(context, builder, result, parts.data, parts.nitems)

    return result(array), codegen


@intrinsic
def array_at(_, address, count, like):
    """The array of `count` elements at an address. They have the dtype `like`, or the dtype of the array `like`."""
    result = types.Array(like.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        data = builder.inttoptr(args[0], context.get_value_type(types.CPointer(like.dtype)))
        return _row(context, builder, result, data, args[1])

    return result(types.int64, types.int64, like), codegen


def _row(context, builder, kind, data, count):
    """The array of Numba type `kind` with one dimension and `count` elements at `data`."""
    array = context.make_array(kind)(context, builder)
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    arrayobj.populate_array(array, data, [count], [size], size, None)
    return array._getvalue()


@intrinsic
def allocate(_, n_bytes):
    """The address of `n_bytes` bytes of memory, or 0 if there is not so much. `release` gives it back.

    NumPy's functions for new arrays would need Numba when the kernel runs.
    """

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.PointerType(), [ir.I64])
        malloc = cgutils.get_or_insert_function(builder.module, kind, "malloc")
        return builder.ptrtoint(builder.call(malloc, args), ir.I64)

    return types.int64(types.int64), codegen


@intrinsic
def release(_, address):
    """Give back memory of `allocate`."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
        free = cgutils.get_or_insert_function(builder.module, kind, "free")
        builder.call(free, [builder.inttoptr(args[0], ir.PointerType())])
        return context.get_dummy_value()

    return types.void(types.int64), codegen
