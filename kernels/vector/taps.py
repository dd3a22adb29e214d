"""Tiles of convolutions: sums over the taps of a kernel, and over the places of an image. One sample per lane.

Images are stored with n samples side by side, n being the number of lanes of a vector: element ``(c, i, j)`` of all n
samples is one vector. So every lane computes the same thing for another sample. Any number of channels, kernel, stride
and padding fills all lanes, and no operation crosses lanes.
"""

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


def _integer(context, builder, array_type, array, offset):
    """Element `offset` of a flat array of int64."""
    return builder.load(element_pointer(context, builder, array_type, array, offset), typ=ir.I64)


def _is_larger(builder, value, largest):
    """The lanes in which `value` takes the place of `largest`: NaN is larger than all numbers, and stays."""
    is_larger = builder.fcmp_unordered(">", value, largest)  # or one of them is NaN
    return builder.and_(is_larger, builder.fcmp_ordered("ord", largest, largest))


@intrinsic
def tap_tile(_, out, out_at, out_places, argmax, inp, places, place_at, taps, first, last, weight, bias, bias_at,
             floor, channels, places_at_once, pools):  # fmt: skip
    """One tile of a convolution: sums over the taps `first` to ``last - 1``, for a few channels at a few places.

    ``sums[r, p] = bias[r] + sum over t of weight[t, r] * inp[places[p] + taps[t]]``. The lengths of the tuples
    `channels` and `places_at_once` are the numbers of channels and places. With `pools` of length 1, only the largest
    sum of each channel is stored, and its number p, the first of equal ones; NaN is the largest. Results below `floor`
    become `floor`.

    Faster than a loop over outputs: the sums stay in registers, each loaded vector takes part in as many
    multiplications as there are channels, and each weight in as many as there are places. A table of offsets takes the
    place of copied patches (Dukhan 2019, arXiv:1907.02129), so one loop serves every kernel, stride and padding.

    out: a `layout.View`, written at ``out.at + r * out.row + out_places[p]``
    out_places: flat int64, from `place_at` on; with `pools` one entry per tile
    argmax: flat uint8, with `pools` written likewise, an element for each of `out`; otherwise not used
    inp: flat
    places: flat int64, from `place_at` on
    taps: flat int64
    weight: a `layout.View`; row t begins with the numbers of the channels for tap t
    bias: flat, from `bias_at` on
    """
    signature = types.void(
        out, types.int64, out_places, argmax, inp, places, types.int64, taps, types.int64, types.int64, weight, bias,
        types.int64, bias.dtype, channels, places_at_once, pools,
    )  # fmt: skip
    out, weight = out.types[0], weight.types[0]  # the arrays
    vector, n_channels, n_places = vectors(out.dtype, 1), channels.count, places_at_once.count
    is_pool = pools.count == 1

    def codegen(context, builder, signature, args):
        (out_, out_at_, out_places_, argmax_, inp_, places_, place_at_, taps_, first_, last_, weights_, bias_,
         bias_at_, floor_, *_) = args  # fmt: skip
        weight_, weight_at_, weight_row_ = cgutils.unpack_tuple(builder, weights_)
        out_array, out_base, out_row = cgutils.unpack_tuple(builder, out_)
        kind, align = llvm_vector(vector), out.dtype.bitwidth // 8

        def integer(array, array_, at):
            return _integer(context, builder, array, array_, at)

        base = [
            element_pointer(context, builder, inp, inp_, integer(places, places_, builder.add(place_at_, ir.I64(p))))
            for p in range(n_places)
        ]
        start = []
        for r in range(n_channels):
            number = builder.load(
                element_pointer(context, builder, bias, bias_, builder.add(bias_at_, ir.I64(r))),
                typ=llvm_number(out.dtype),
            )
            start.append(splat(builder, vector, number))
        entry, loop, done = builder.block, builder.append_basic_block("tap"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        t = builder.phi(ir.I64)
        t.add_incoming(first_, entry)
        sums = [[builder.phi(kind) for _ in range(n_places)] for _ in range(n_channels)]
        tap = integer(taps, taps_, t)
        numbers = []
        for p in range(n_places):
            numbers.append(builder.load(address(builder, base[p], llvm_number(inp.dtype), tap), align=align, typ=kind))
        row = builder.add(weight_at_, builder.mul(t, weight_row_))
        new = []
        for r in range(n_channels):
            at = element_pointer(context, builder, weight, weight_, builder.add(row, ir.I64(r)))
            factor = splat(builder, vector, builder.load(at, typ=llvm_number(weight.dtype)))
            new.append([multiply_add(builder, vector, factor, numbers[p], sums[r][p]) for p in range(n_places)])
        following = builder.add(t, ir.I64(1))
        t.add_incoming(following, loop)
        for r in range(n_channels):
            for p in range(n_places):
                sums[r][p].add_incoming(start[r], entry)
                sums[r][p].add_incoming(new[r][p], loop)
        builder.cbranch(builder.icmp_signed("<", following, last_), loop, done)
        builder.position_at_end(done)
        lowest = splat(builder, vector, floor_)

        def store(value, r, place):
            value = builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value)
            at = builder.add(builder.add(out_base, builder.mul(out_row, ir.I64(r))), place)
            builder.store(value, element_pointer(context, builder, out, out_array, at), align=align)
            return at

        if not is_pool:
            for p in range(n_places):
                place = integer(out_places, out_places_, builder.add(out_at_, ir.I64(p)))
                for r in range(n_channels):
                    store(new[r][p], r, place)
            return context.get_dummy_value()
        bytes_ = ir.VectorType(ir.IntType(8), vector.lanes)
        place = integer(out_places, out_places_, out_at_)
        for r in range(n_channels):
            largest, winner = new[r][0], ir.Constant(bytes_, [0] * vector.lanes)
            for p in range(1, n_places):
                value = new[r][p]
                is_larger = _is_larger(builder, value, largest)
                largest = builder.select(is_larger, value, largest)
                winner = builder.select(is_larger, ir.Constant(bytes_, [p] * vector.lanes), winner)
            at = store(largest, r, place)
            builder.store(winner, element_pointer(context, builder, argmax, argmax_, at), align=1)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def place_tile(_, out, out_at, inp, taps, tap_at, places, dout, dout_at, dout_row, dout_places, first, last, n_taps,
               channels):  # fmt: skip
    """One tile of a weight gradient: sums over the places `first` to ``last - 1``, for a few taps and channels.

    ``out[t, r] += sum over p of inp[places[p] + taps[t]] * dout[r, dout_places[p]]``, vector by vector: the lanes are
    different samples and are added later. The lengths of the tuples `n_taps` and `channels` are the numbers of taps and
    channels.

    Faster than a loop over weights, because the sums stay in registers, and each loaded vector takes part in several
    multiplications.

    out: flat, a vector for each tap and channel from `out_at` on, added to
    inp: flat
    taps: flat int64, from `tap_at` on
    places, dout_places: flat int64
    dout: flat, channel r begins at ``dout_at + r * dout_row``
    """
    signature = types.void(
        out, types.int64, inp, taps, types.int64, places, dout, types.int64, types.int64, dout_places, types.int64,
        types.int64, n_taps, channels,
    )  # fmt: skip
    vector, height, width = vectors(out.dtype, 1), n_taps.count, channels.count

    def codegen(context, builder, signature, args):
        (out_, out_at_, inp_, taps_, tap_at_, places_, dout_, dout_at_, dout_row_, dout_places_, first_, last_,
         *_) = args  # fmt: skip
        kind, align, lanes = llvm_vector(vector), out.dtype.bitwidth // 8, vector.lanes

        def integer(array, array_, at):
            return _integer(context, builder, array, array_, at)

        def vector_at(pointer, offset):
            return builder.load(address(builder, pointer, llvm_number(out.dtype), offset), align=align, typ=kind)

        inputs = [
            element_pointer(context, builder, inp, inp_, integer(taps, taps_, builder.add(tap_at_, ir.I64(t))))
            for t in range(height)
        ]
        gradients = [
            element_pointer(context, builder, dout, dout_, builder.add(dout_at_, builder.mul(dout_row_, ir.I64(r))))
            for r in range(width)
        ]
        targets = [
            [
                element_pointer(context, builder, out, out_, builder.add(out_at_, ir.I64((t * width + r) * lanes)))
                for r in range(width)
            ]
            for t in range(height)
        ]
        start = [[builder.load(each, align=align, typ=kind) for each in row] for row in targets]
        entry, loop, done = builder.block, builder.append_basic_block("place"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        p = builder.phi(ir.I64)
        p.add_incoming(first_, entry)
        sums = [[builder.phi(kind) for _ in range(width)] for _ in range(height)]
        place, dplace = integer(places, places_, p), integer(dout_places, dout_places_, p)
        right = [vector_at(each, dplace) for each in gradients]
        new = []
        for t in range(height):
            left = vector_at(inputs[t], place)
            new.append([multiply_add(builder, vector, left, right[r], sums[t][r]) for r in range(width)])
        following = builder.add(p, ir.I64(1))
        p.add_incoming(following, loop)
        for t in range(height):
            for r in range(width):
                sums[t][r].add_incoming(start[t][r], entry)
                sums[t][r].add_incoming(new[t][r], loop)
        builder.cbranch(builder.icmp_signed("<", following, last_), loop, done)
        builder.position_at_end(done)
        for t in range(height):
            for r in range(width):
                builder.store(new[t][r], targets[t][r], align=align)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_lanes(_, out, out_at, inp, inp_at):
    """The sum of the lanes of each of n vectors: ``out[out_at + k] = sum of vector k of inp``, n = the lanes of one.

    Faster than one vector at a time: two vectors are interleaved and added, so half as many remain at each stage. The
    order of the additions is fixed.

    out, inp: flat, the same dtype
    """
    vector = vectors(out.dtype, 1)
    lanes = VECTOR * 8 // out.dtype.bitwidth

    def codegen(context, builder, signature, args):
        out_, out_at_, inp_, inp_at_ = args
        kind, align = llvm_vector(vector), out.dtype.bitwidth // 8
        rows = []
        for k in range(lanes):
            at = element_pointer(context, builder, inp, inp_, builder.add(inp_at_, ir.I64(k * lanes)))
            rows.append(builder.load(at, align=align, typ=kind))
        distance = lanes // 2
        while distance:
            low = [k if not k & distance else lanes + k - distance for k in range(lanes)]
            high = [k + distance if not k & distance else lanes + k for k in range(lanes)]
            masks = [ir.Constant(ir.VectorType(ir.I32, lanes), mask) for mask in (low, high)]
            half = len(rows) // 2
            rows = [
                builder.fadd(*(builder.shuffle_vector(rows[k], rows[k + half], mask) for mask in masks))
                for k in range(half)
            ]
            distance //= 2
        at = element_pointer(context, builder, out, out_, out_at_)
        builder.store(rows[0], at, align=align)
        return context.get_dummy_value()

    return types.void(out, types.int64, inp, types.int64), codegen


@intrinsic
def largest_of_window(_, out, argmax, at, inp, inp_at, entries, first, last):
    """The largest vector of a window, lane by lane, and its tap: of equal ones the first; NaN is the largest.

    out: flat, a vector written at `at`
    argmax: flat uint8, an element for each lane written at `at`
    inp: flat
    entries: flat int64, pairs of an offset from `inp_at` and a tap, for the pairs `first` to ``last - 1``
    """
    vector = vectors(out.dtype, 1)

    def codegen(context, builder, signature, args):
        out_, argmax_, at_, inp_, inp_at_, entries_, first_, last_ = args
        kind, align, bytes_ = llvm_vector(vector), out.dtype.bitwidth // 8, ir.VectorType(ir.IntType(8), vector.lanes)

        def entry_of(k):
            at = builder.mul(k, ir.I64(2))
            pair = [_integer(context, builder, entries, entries_, builder.add(at, ir.I64(j))) for j in range(2)]
            source = element_pointer(context, builder, inp, inp_, builder.add(inp_at_, pair[0]))
            return builder.load(source, align=align, typ=kind), _bytes(builder, pair[1], vector.lanes)

        value, tap = entry_of(first_)
        second = builder.add(first_, ir.I64(1))
        entry, loop, body = builder.block, builder.append_basic_block("window"), builder.append_basic_block("entry")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, largest, winner = builder.phi(ir.I64), builder.phi(kind), builder.phi(bytes_)
        for phi, start in ((k, second), (largest, value), (winner, tap)):
            phi.add_incoming(start, entry)
        builder.cbranch(builder.icmp_signed("<", k, last_), body, done)
        builder.position_at_end(body)
        value, tap = entry_of(k)
        is_larger = _is_larger(builder, value, largest)
        k.add_incoming(builder.add(k, ir.I64(1)), body)
        largest.add_incoming(builder.select(is_larger, value, largest), body)
        winner.add_incoming(builder.select(is_larger, tap, winner), body)
        builder.branch(loop)
        builder.position_at_end(done)
        builder.store(largest, element_pointer(context, builder, out, out_, at_), align=align)
        builder.store(winner, element_pointer(context, builder, argmax, argmax_, at_), align=1)
        return context.get_dummy_value()

    signature = types.void(out, argmax, types.int64, inp, types.int64, entries, types.int64, types.int64)
    return signature, codegen


def _bytes(builder, number, lanes):
    """A vector of bytes that all equal the lowest byte of an integer."""
    kind = ir.VectorType(ir.IntType(8), lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, builder.trunc(number, ir.IntType(8)), ir.Constant(ir.I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.I32, lanes), [0] * lanes))


@intrinsic
def where_argmax(_, argmax, at, tap, value):
    """`value` in the lanes whose element of the flat uint8 array `argmax`, from `at` on, is `tap`; 0 in the others."""

    def codegen(context, builder, signature, args):
        argmax_, at_, tap_, value_ = args
        kind = ir.VectorType(ir.IntType(8), value.lanes)
        winner = builder.load(element_pointer(context, builder, argmax, argmax_, at_), align=1, typ=kind)
        wins = builder.icmp_signed("==", winner, _bytes(builder, tap_, value.lanes))
        return builder.select(wins, value_, constant(value, 0.0))

    return value(argmax, types.int64, types.int64, value), codegen
