"""The arrays that an epoch works in: those of the whole team, and those of each thread."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastnn.backends.compiled.inputs import NonzeroInputs
from fastnn.backends.compiled.layout import ScratchSizes, readonly_view
from fastnn.kernels import team
from fastnn.kernels.epoch import block
from fastnn.kernels.epoch import by_rows as rows_kernel
from fastnn.kernels.epoch import by_units as units_kernel
from fastnn.kernels.epoch.by_rows import OwnByRows
from fastnn.kernels.epoch.by_units import WorkByUnits
from fastnn.kernels.epoch.chunks import CHUNKS, WorkByChunks
from fastnn.kernels.inputs import DENSE, PACKED, PACKED_LISTS, row_blocks
from fastnn.kernels.inputs.csr import Csr
from fastnn.kernels.inputs.packed import Packed
from fastnn.kernels.layout import BIAS_AT, BLOCK, GRADIENT_ROWS, GROUP, WEIGHT_AT, WIDE, Layout
from fastnn.kernels.ops.optimizers import State
from fastnn.kernels.vector.simd import VECTOR
from fastnn.network.aligned import aligned_parts, aligned_zeros


class WorkShape(NamedTuple):
    """What the arrays of an epoch depend on, besides the form of the inputs.

    layout, sizes: the network's
    n_inputs: D
    n_targets: the number of targets of a sample; 0 for labels
    smoothing: the fraction of each label that is spread over all classes
    most_threads: the largest number of threads
    """

    layout: Layout
    sizes: ScratchSizes
    n_inputs: int
    n_targets: int
    smoothing: float
    most_threads: int

    @property
    def real(self) -> np.dtype:
        """The working dtype."""
        return self.layout.parameters.dtype


def work_by_units(
    shape: WorkShape, state: State, csr: Csr, image_dtype: np.dtype, form: int
) -> tuple[WorkByUnits, list[block.Scratch]]:
    """Return the arrays for threads that share units: those of the team, and the scratch of each thread.

    csr: the data set if it was given as lists, otherwise of length 0
    image_dtype: that of the inputs
    form: that of the inputs, one of the codes of `fastnn.kernels.inputs`
    """
    size, sizes = BLOCK * shape.n_inputs, shape.sizes
    packed, dense = size if form in (PACKED, PACKED_LISTS) else 0, size if form == DENSE else 0
    sizes_of_inputs = (packed, image_dtype), (packed // GROUP, np.uint64), (dense, shape.real)
    first, second = (
        units_kernel.Inputs(form, Packed(values, masks), numbers)
        for values, masks, numbers in (aligned_parts(*sizes_of_inputs) for _ in range(2))
    )
    samples = new_samples(shape)
    work = WorkByUnits(
        units=new_units(shape),
        state=state,
        samples=(samples, new_samples(shape)._replace(loss=samples.loss, correct=samples.correct)),
        inputs=(first, second),
        csr=csr,
        penalty=np.zeros(shape.layout.n_weights * sizes.max_panels),
        results=np.zeros(block.N_RESULTS),
    )
    return work, [new_scratch(shape) for _ in range(min(shape.most_threads, sizes.max_panels))]


def work_by_rows(
    shape: WorkShape, state: State, nonzero: NonzeroInputs, is_sparse: bool
) -> tuple[WorkByChunks, list[OwnByRows]]:
    """Return the arrays for threads that share the rows of a batch: those of the team, and those of each thread.

    The inputs are dense; `is_sparse` says that they will be replaced by lists or row blocks of `nonzero`.
    """
    own = []
    for _ in range(min(shape.most_threads, CHUNKS)):
        scratch = new_scratch(shape)
        transposed = aligned_zeros(row_blocks.SCRATCH, shape.real)
        inputs = rows_kernel.Inputs(
            DENSE,
            nonzero.empty_lists(),
            row_blocks.RowBlockWork(nonzero.empty_row_blocks(), transposed, scratch.offsets),
            aligned_zeros(0 if is_sparse else BLOCK * shape.n_inputs, shape.real),
        )
        alone, penalty = team.Member(0, 1, team.new_barrier()), np.zeros(shape.layout.n_weights)
        own.append(OwnByRows(alone, inputs, new_units(shape), new_samples(shape), penalty, scratch))
    return work_by_chunks(state, parameter_slices(dense_spans(shape.layout), shape.real)), own


def work_by_chunks(state: State, slices: np.ndarray) -> WorkByChunks:
    """Return the arrays of a team whose threads share the rows of a batch."""
    return WorkByChunks(
        state=state,
        chunk_loss=np.zeros(CHUNKS),
        chunk_correct=np.zeros(CHUNKS, np.int64),
        slices=slices,
        penalty=np.zeros(len(slices)),
        results=np.zeros(block.N_RESULTS),
    )


def new_units(shape: WorkShape) -> block.Units:
    n_units, n_logits, real = BLOCK * shape.sizes.n_units, shape.sizes.n_partial_logits, shape.real
    return block.Units(*aligned_parts((n_units, real), (n_units, real), (n_logits, real)))


def new_samples(shape: WorkShape) -> block.Samples:
    label, target, weight, loss, correct = aligned_parts(
        (BLOCK, np.int64),
        (BLOCK * shape.n_targets, shape.real),
        (BLOCK, shape.real),
        (BLOCK, np.float64),
        (BLOCK, np.int64),
    )
    return block.Samples(shape.smoothing, label, target, weight, loss, correct)


def new_scratch(shape: WorkShape) -> block.Scratch:
    real = shape.real
    lanes = VECTOR // real.itemsize
    gradient_tile, transposed, columns, row_stats, offsets = aligned_parts(
        (GRADIENT_ROWS * WIDE * lanes, real),
        ((WIDE * lanes) ** 2, real),
        (shape.sizes.padded_classes * lanes, real),
        (4 * lanes, real),
        (2 * GROUP, np.int64),
    )
    return block.Scratch(gradient_tile, transposed, columns, row_stats, offsets)


class Span(NamedTuple):
    """The weights or the biases of a layer in the parameters.

    at, stop: the first element and the end
    is_weight: whether L2 and weight decay apply
    is_scaled: whether the gradient is that of inputs before they are scaled
    """

    at: int
    stop: int
    is_weight: bool
    is_scaled: bool = False


def dense_spans(layout: Layout, n_parameters: int | None = None) -> list[Span]:
    """Return the spans of the dense layers. n_parameters: where they end; None: with the last parameter."""
    starts = layout.table[: layout.n_weights, [WEIGHT_AT, BIAS_AT]].tolist()
    end = layout.parameters.size if n_parameters is None else n_parameters
    spans = []
    for layer, ((weight_at, bias_at), (stop, _)) in enumerate(pairwise([*starts, (end, None)])):
        spans += [Span(weight_at, bias_at, True, layer == 0), Span(bias_at, stop, False)]
    return spans


def parameter_slices(spans: Sequence[Span], real: np.dtype) -> np.ndarray:
    """Return the `slices` of `WorkByChunks`: the parameters in slices of at most a gradient tile."""
    lanes, slices = VECTOR // real.itemsize, []
    tile = GRADIENT_ROWS * WIDE * lanes
    for at, stop, is_weight, is_scaled in spans:
        # Four vectors are updated together if their number is a multiple of four, for any width of the layer.
        vectors = 4 if (stop - at) % (4 * lanes) == 0 else 1
        for start in range(at, stop, tile):
            n_rows = (min(start + tile, stop) - start) // (vectors * lanes)
            slices.append((start, n_rows, vectors, is_weight, is_scaled))
    return readonly_view(np.array(slices, np.int64))
