"""The trainer of image networks in the Numba backend: a plan of the image layers, and a layout of the dense ones."""

from itertools import pairwise
from typing import Any

import numpy as np

from fastnn.backends.arguments import TrainingData, check_shapes
from fastnn.backends.compiled.fused import Execution, Trainer
from fastnn.backends.compiled.image_plan import ImagePlan, split_images
from fastnn.backends.compiled.layout import Arrangement, as_readonly, hold, in_kernel_dtype
from fastnn.backends.compiled.strided import NOT_STRIDED
from fastnn.backends.compiled.work import (
    Span,
    dense_spans,
    new_samples,
    new_scratch,
    new_units,
    work_by_chunks,
)
from fastnn.interruptible import interruptible
from fastnn.kernels import team
from fastnn.kernels.compiler.kernel import Kernel
from fastnn.kernels.epoch import block
from fastnn.kernels.epoch.by_images import Cut, OwnByImages, n_image_chunks, run_epoch_by_images
from fastnn.kernels.epoch.chunks import CHUNKS
from fastnn.kernels.images import IMAGE_BLOCK
from fastnn.memory import check_memory
from fastnn.network import Network
from fastnn.network.aligned import aligned_zeros
from fastnn.network.layers import array_shapes

# Each chunk of a batch has its own gradient. Those of large networks take long to write and to add, so there are fewer.
SMALL_CHUNK, LARGE_CHUNK = 16, 32
# The largest number of parameters of a network with small chunks.
FEW_PARAMETERS = 2**17
# The gradients of all chunks together have about so many numbers at most, but there are always a few chunks.
NUMBERS_OF_GRADIENTS, FEWEST_CHUNKS = 2**25, 2


class ImageTrainer(Trainer):
    """The trainer of a network that `split_images` can split, with dense layers after the images."""

    def _arrange(self, network: Network) -> Arrangement:
        split = split_images(network)
        assert split is not None
        stages, n_layers = split
        shapes = [pair for pair, _ in array_shapes(network.layers, network.shapes[:-1])[:n_layers] if pair]
        arrangement = Arrangement(network.sizes[n_layers:], network.weights[0].dtype, shapes)
        self._image_plan = ImagePlan(stages, arrangement)
        self._names = [stages[-1].activation, *(layer.activation for layer in network.layers[n_layers:])]
        return arrangement

    def _activations(self, network: Network) -> list[str]:
        return self._names

    def _set_data(self, data: TrainingData, alike: bool = False) -> None:
        inputs, targets, sample_weight, numbers = data
        network, real = self._network, self._network.dtype
        images = interruptible(np.ascontiguousarray, inputs, work=2 * inputs.size)
        images = as_readonly(interruptible(in_kernel_dtype, images, real, work=2 * images.size))
        check_shapes(inputs=(images, (None, network.n_inputs)))
        self._n_samples = len(images)
        self._held = (hold(images), inputs)
        uses_labels = network.loss.uses_labels
        self._numbers = self._no_numbers if numbers is None else as_readonly(numbers)
        self._data = block.Data(
            images=images,
            labels=as_readonly(targets if uses_labels else np.empty(0, np.int64)),
            targets=as_readonly(np.empty((0, 0), real) if uses_labels else targets),
            weights=as_readonly(np.empty(0, real) if sample_weight is None else sample_weight),
            source=NOT_STRIDED,
        )

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Train on other data from now on; the optimizer's state and all arrays stay."""
        self._set_data(data)

    def release_data(self) -> None:
        """Let go of the data; `replace_data` comes before the next epoch."""
        self._held, self._n_samples, self._numbers = None, 0, self._no_numbers
        self._data = self._data._replace(
            images=as_readonly(np.empty((0, self._network.n_inputs), self._data.images.dtype))
        )
        self._records.clear()

    def _prepare(self, n_rows: int, batch_size: int, rows: np.ndarray | None) -> None:
        batch_size = min(batch_size, n_rows)
        n_gradients, size = self._max_threads(batch_size), self._layout.parameters.size
        if self._state.gradient.size < n_gradients * size:
            self._state = self._state._replace(gradient=aligned_zeros(n_gradients * size, self._network.dtype))
        is_new = self._work is None
        if is_new:
            self._work, self._own = interruptible(self._make_work_by_images, work=0)
        assert self._work is not None
        if self._work.state is not self._state:
            self._work = self._work._replace(state=self._state)
        if is_new:  # the first epoch's time does not include that of loading or compiling the kernel
            epoch, *_ = self._plan(np.empty(0, np.int64), batch_size, 0.0)
            self._kernel().load(*self._arguments(team.Member(0, 1, team.new_barrier()), epoch))

    def _make_work_by_images(self) -> tuple[Any, list[Any]]:
        shape, plan, own = self._shape, self._image_plan, []
        n_threads = min(shape.most_threads, self._cut.most)
        gradients = self._cut.most * self._arrangement.n_parameters * shape.real.itemsize
        check_memory(
            n_threads * plan.n_bytes(IMAGE_BLOCK, trains=True) + gradients,
            lambda: f"the arrays to train {self._network} with {n_threads} threads",
        )
        for _ in range(n_threads):
            own.append(
                OwnByImages(
                    alone=team.Member(0, 1, team.new_barrier()),
                    plan=plan.plan,
                    cut=self._cut,
                    images=plan.new_own(IMAGE_BLOCK),
                    units=new_units(shape),
                    samples=new_samples(shape),
                    penalty=np.zeros(shape.layout.n_weights * shape.sizes.max_panels),
                    scratch=new_scratch(shape),
                )
            )
        return work_by_chunks(self._state, self.slices()), own

    def _spans(self) -> list[Span]:
        arrangement = self._arrangement
        ends = [*(at for pair in arrangement.plain_at for at in pair), arrangement.n_parameters]
        plain = [Span(at, stop, number % 2 == 0) for number, (at, stop) in enumerate(pairwise(ends))]
        return dense_spans(self._layout, arrangement.n_dense) + plain

    @property
    def _cut(self) -> Cut:
        n_parameters = self._layout.parameters.size
        n_rows = SMALL_CHUNK if n_parameters <= FEW_PARAMETERS else LARGE_CHUNK
        return Cut(n_rows, max(FEWEST_CHUNKS, min(CHUNKS, NUMBERS_OF_GRADIENTS // n_parameters)))

    def _in_order_of_inputs(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def _kernel(self) -> Kernel:
        return run_epoch_by_images

    def _max_threads(self, batch_size: int) -> int:
        return n_image_chunks(self._cut, batch_size)

    def _multiplications(self) -> int:
        return self._network.n_multiplications

    def describe(self) -> Execution:
        """How the last epoch ran; RuntimeError if neither `prepare` nor `run_epoch` has been called."""
        if self._work is None:
            raise RuntimeError("the trainer has no kernel yet: call prepare or run_epoch before describe")
        return Execution("by images", "images", self._threads)
