"""The arrays that an epoch works in: those of the whole team, and those of each thread."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastnn.backends.compiled.inputs import NonzeroInputs
from fastnn.backends.compiled.layout import ScratchSizes, readonly_view
from fastnn.kernels import team
from fastnn.kernels.epoch import block
from fastnn.kernels.epoch import by_rows as rows_kernel
from fastnn.kernels.epoch import by_units as units_kernel
from fastnn.kernels.epoch.by_rows import CHUNKS, OwnByRows, WorkByRows
from fastnn.kernels.epoch.by_units import WorkByUnits
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
    shape: WorkShape, state: State, csr: Csr, image_dtype: np.dtype, is_sparse: bool
) -> tuple[WorkByUnits, list[block.Scratch]]:
    """Return the arrays for threads that share units: those of the team, and the scratch of each thread.

    csr: the data set if it was given as lists, otherwise of length 0
    image_dtype: that of the inputs
    is_sparse: whether the first layer skips zeros
    """
    size, sizes = BLOCK * shape.n_inputs, shape.sizes
    packed, dense = (size, 0) if is_sparse else (0, size)
    form = DENSE if not is_sparse else PACKED_LISTS if len(csr.indptr) else PACKED
    sizes_of_inputs = (packed, image_dtype), (packed // GROUP, np.uint64), (dense, shape.real)
    first, second = (
        units_kernel.Inputs(form, Packed(values, masks), numbers)
        for values, masks, numbers in (aligned_parts(*sizes_of_inputs) for _ in range(2))
    )
    samples = _samples(shape)
    work = WorkByUnits(
        units=_units(shape),
        state=state,
        samples=(samples, _samples(shape)._replace(loss=samples.loss, correct=samples.correct)),
        inputs=(first, second),
        csr=csr,
        penalty=np.zeros(shape.layout.n_weights * sizes.max_panels),
        results=np.zeros(block.N_RESULTS),
    )
    return work, [_scratch(shape) for _ in range(min(shape.most_threads, sizes.max_panels))]


def work_by_rows(
    shape: WorkShape, state: State, nonzero: NonzeroInputs, is_sparse: bool
) -> tuple[WorkByRows, list[OwnByRows]]:
    """Return the arrays for threads that share the rows of a batch: those of the team, and those of each thread.

    The inputs are dense; `is_sparse` says that they will be replaced by lists or row blocks of `nonzero`.
    """
    slices, own = _parameter_slices(shape.layout), []
    for _ in range(min(shape.most_threads, CHUNKS)):
        scratch = _scratch(shape)
        transposed = aligned_zeros(row_blocks.SCRATCH, shape.real)
        inputs = rows_kernel.Inputs(
            DENSE,
            nonzero.empty_lists(),
            row_blocks.RowBlockWork(nonzero.empty_row_blocks(), transposed, scratch.offsets),
            aligned_zeros(0 if is_sparse else BLOCK * shape.n_inputs, shape.real),
        )
        alone, penalty = team.Member(0, 1, team.new_barrier()), np.zeros(shape.layout.n_weights)
        own.append(OwnByRows(alone, inputs, _units(shape), _samples(shape), penalty, scratch))
    work = WorkByRows(
        state=state,
        chunk_loss=np.zeros(CHUNKS),
        chunk_correct=np.zeros(CHUNKS, np.int64),
        slices=slices,
        penalty=np.zeros(len(slices)),
        results=np.zeros(block.N_RESULTS),
    )
    return work, own


def _units(shape: WorkShape) -> block.Units:
    n_units, n_logits, real = BLOCK * shape.sizes.n_units, shape.sizes.n_partial_logits, shape.real
    return block.Units(*aligned_parts((n_units, real), (n_units, real), (n_logits, real)))


def _samples(shape: WorkShape) -> block.Samples:
    label, target, weight, loss, correct = aligned_parts(
        (BLOCK, np.int64),
        (BLOCK * shape.n_targets, shape.real),
        (BLOCK, shape.real),
        (BLOCK, np.float64),
        (BLOCK, np.int64),
    )
    return block.Samples(shape.smoothing, label, target, weight, loss, correct)


def _scratch(shape: WorkShape) -> block.Scratch:
    real = shape.real
    lanes = VECTOR // real.itemsize
    gradient_tile, transposed, columns, row_stats, offsets = aligned_parts(
        (GRADIENT_ROWS * WIDE * lanes, real),
        ((WIDE * lanes) ** 2, real),
        (shape.sizes.padded_classes * lanes, real),
        (4 * lanes, real),
        (GROUP, np.int64),
    )
    return block.Scratch(gradient_tile, transposed, columns, row_stats, offsets)


def _parameter_slices(layout: Layout) -> np.ndarray:
    """The `slices` of `WorkByRows`: the parameters in slices of at most a gradient tile."""
    lanes = VECTOR // layout.parameters.itemsize
    starts = layout.table[: layout.n_weights, [WEIGHT_AT, BIAS_AT]].tolist()
    bounds = [*starts, (layout.parameters.size, None)]
    slices = []
    for layer, ((weight_at, bias_at), (end, _)) in enumerate(pairwise(bounds)):
        for at, stop, is_weight in ((weight_at, bias_at, True), (bias_at, end, False)):
            # Four vectors are updated together if their number is a multiple of four, for any width of the layer.
            vectors = 4 if (stop - at) % (4 * lanes) == 0 else 1
            tile = GRADIENT_ROWS * WIDE * lanes
            slices += [
                (
                    start,
                    (min(start + tile, stop) - start) // (vectors * lanes),
                    vectors,
                    is_weight,
                    is_weight and layer == 0,
                )
                for start in range(at, stop, tile)
            ]
    return readonly_view(np.array(slices, np.int64))
