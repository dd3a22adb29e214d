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
from fastnn.network.aligned import aligned_zeros


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
    first, second = (
        units_kernel.Inputs(
            form,
            Packed(aligned_zeros(packed, image_dtype), aligned_zeros(packed // GROUP, np.uint64)),
            aligned_zeros(dense, shape.real),
        )
        for _ in range(2)
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
    return block.Units(aligned_zeros(n_units, real), aligned_zeros(n_units, real), aligned_zeros(n_logits, real))


def _samples(shape: WorkShape) -> block.Samples:
    return block.Samples(
        smoothing=shape.smoothing,
        label=aligned_zeros(BLOCK, np.int64),
        target=aligned_zeros(BLOCK * shape.n_targets, shape.real),
        weight=aligned_zeros(BLOCK, shape.real),
        loss=aligned_zeros(BLOCK, np.float64),
        correct=aligned_zeros(BLOCK, np.int64),
    )


def _scratch(shape: WorkShape) -> block.Scratch:
    real = shape.real
    lanes = VECTOR // real.itemsize
    return block.Scratch(
        gradient_tile=aligned_zeros(GRADIENT_ROWS * WIDE * lanes, real),
        transposed=aligned_zeros((WIDE * lanes) ** 2, real),
        columns=aligned_zeros(shape.sizes.padded_classes * lanes, real),
        row_stats=aligned_zeros(4 * lanes, real),
        offsets=aligned_zeros(GROUP, np.int64),
    )


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
