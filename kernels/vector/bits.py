"""Find the nonzero elements of an array, as the bits of a word or as a list."""

from fastnn.kernels.compiler.lazy import cgutils, ir, types
from fastnn.kernels.jit import intrinsic
from fastnn.kernels.vector.simd import VECTOR, element_pointer, llvm_number


@intrinsic
def trailing_zeros(_, word):
    """The position of the lowest set bit of a nonzero uint64."""

    def codegen(context, builder, signature, args):
        zero_is_undefined = ir.Constant(ir.I1, 1)
        return builder.cttz(args[0], zero_is_undefined)

    return types.int64(types.uint64), codegen


def _load_nonzero(context, builder, array_type, array, offset, n):
    """`n` elements of a flat array, and the mask of those that are nonzero. NaN counts as nonzero."""
    dtype = array_type.dtype
    whole = isinstance(dtype, types.Integer)
    kind = ir.VectorType(llvm_number(dtype), n)
    pointer = element_pointer(context, builder, array_type, array, offset)
    load = builder.load(pointer, align=dtype.bitwidth // 8, typ=kind)
    zero = ir.Constant(kind, None if whole else [0.0] * n)
    return load, builder.icmp_signed("!=", load, zero) if whole else builder.fcmp_unordered("!=", load, zero)


@intrinsic
def nonzero_mask(_, array, offset):
    """A uint64 whose bit k, from 0 to 63, is set if element ``offset + k`` of a flat array is nonzero."""

    def codegen(context, builder, signature, args):
        _, test = _load_nonzero(context, builder, array, args[0], args[1], 64)
        return builder.bitcast(test, ir.I64)

    return types.uint64(array, types.int64), codegen


@intrinsic
def list_nonzero(_, index, value, at, array, offset, first):
    """Append the nonzero elements of ``array[offset : offset + n]`` to lists. Returns their number.

    n is 16, or 8 for elements of 8 bytes; more elements than one register holds crash LLVM. The values are written to
    ``value[at:]`` and their positions to ``index[at:]``. Positions are counted from `first`, the position of element
    `offset`. No branch depends on the data, so none is mispredicted.

    index: flat, integers, n elements overwritten from `at` on
    value: flat, the dtype of `array`, n elements overwritten from `at` on
    array: flat
    """
    n, bits = VECTOR * 8 // max(32, array.dtype.bitwidth), ir.IntType(index.dtype.bitwidth)

    def codegen(context, builder, signature, args):
        index_, value_, at_, array_, offset_, first_ = args
        values, mask = _load_nonzero(context, builder, array, array_, offset_, n)
        numbers = ir.VectorType(bits, n)
        undefined = ir.Constant(numbers, ir.Undefined)
        start = builder.insert_element(undefined, builder.trunc(first_, bits), ir.Constant(ir.I32, 0))
        start = builder.shuffle_vector(start, undefined, ir.Constant(ir.VectorType(ir.I32, n), [0] * n))
        offsets = builder.add(start, ir.Constant(numbers, list(range(n))))
        for array_type, target, content in ((value, value_, values), (index, index_, offsets)):
            suffix = f"v{n}{'i' if isinstance(array_type.dtype, types.Integer) else 'f'}{array_type.dtype.bitwidth}"
            signature_ = ir.FunctionType(content.type, [content.type, mask.type, content.type])
            name = f"llvm.experimental.vector.compress.{suffix}"
            compress = cgutils.get_or_insert_function(builder.module, signature_, name)
            packed = builder.call(compress, [content, mask, ir.Constant(content.type, ir.Undefined)])
            pointer = element_pointer(context, builder, array_type, target, at_)
            builder.store(packed, pointer, align=array_type.dtype.bitwidth // 8)
        word = builder.zext(builder.bitcast(mask, ir.IntType(n)), ir.I64)
        return builder.ctpop(word)

    return types.int64(index, value, types.int64, array, types.int64, types.int64), codegen
