"""The trainer of the Numba backend: lays out data and optimizer state, and runs epochs on a team of threads."""

import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from fastnn.backends.arguments import TrainingData, are_finite, check_order, check_shapes
from fastnn.backends.base import EpochResult, EpochSums, LossAndGradients, TrainerState
from fastnn.backends.compiled.inputs import NonzeroInputs
from fastnn.backends.compiled.layout import (
    Arrangement,
    as_readonly,
    hold,
    in_kernel_dtype,
    lay_out,
    scratch_sizes,
)
from fastnn.backends.compiled.strided import (
    AT_ONCE,
    NOT_STRIDED,
    can_be_strided,
    count_nonzero,
    needs_no_strides,
    strided,
)
from fastnn.backends.compiled.work import (
    Span,
    WorkShape,
    dense_spans,
    parameter_slices,
    work_by_rows,
    work_by_units,
)
from fastnn.backends.threads import TeamSize, resolve_threads
from fastnn.datasets.sparse import is_sparse
from fastnn.interruptible import interruptible
from fastnn.kernels import team
from fastnn.kernels.compiler.arguments import Record, Records, address_of, joined
from fastnn.kernels.compiler.kernel import Kernel
from fastnn.kernels.epoch import block
from fastnn.kernels.epoch.by_rows import n_chunks, run_epoch_by_rows
from fastnn.kernels.epoch.by_units import WorkByUnits, run_epoch_by_units
from fastnn.kernels.epoch.chunks import CHUNKS, WorkByChunks
from fastnn.kernels.epoch.finish import Finish
from fastnn.kernels.inputs import DENSE, FORM_NAMES, LISTS, PACKED, PACKED_LISTS, ROW_BLOCKS
from fastnn.kernels.inputs.csr import Csr
from fastnn.kernels.inputs.row_blocks import Bsr
from fastnn.kernels.layout import BLOCK
from fastnn.kernels.ops.optimizers import ADAM, KEEP_GRADIENT, MOMENTUM, NESTEROV, SGD, Rule, State
from fastnn.kernels.vector.simd import VECTOR
from fastnn.network import Network
from fastnn.network.aligned import aligned_zeros
from fastnn.network.snapshot import Snapshot
from fastnn.optim.averaging import EMA, get_average
from fastnn.optim.config import LossConfig, TrainingConfig
from fastnn.optim.optimizers import SGD as PlainOrMomentum
from fastnn.optim.optimizers import Adam, Optimizer
from fastnn.randomness import dropout_keys, dropout_threshold

# If at most this fraction of the inputs is nonzero, the first layer skips zeros.
SPARSE_BELOW = 0.5
# If at most this fraction of the entries of a sparse matrix is nonzero, its lists are visited sample by sample. They
# need a stored gradient of all inputs, which pays off if a batch uses an input at least so many times on average.
LISTS_BELOW, MANY_USES = 0.1, 0.1
# Threads share the rows of a batch if there are at most this many vectors of parameters per row.
VECTORS_PER_ROW = 8
# An epoch of at most this many multiplications, about a millisecond, gains nothing from a second thread. Starting the
# thread and waiting at two barriers per step take as long as it saves.
ONE_THREAD_EPOCH = 2**25
# Likewise a step of at most this many multiplications: two threads wait for each other at two barriers in every step.
# On idle cores a second thread is about even there; when another process runs, the waits take most of the step.
ONE_THREAD_STEP = 2**20
# In an epoch of at most this many multiplications, about 20 ms of work, the caller's thread works too instead of only
# waiting for Ctrl-C.
SHORT_EPOCH = 2**30
# The number of multiplications that take as long as a row and a step do without those of the products.
_PER_ROW, _PER_STEP = 2**13, 2**18


class Execution(NamedTuple):
    """How a trainer ran its last epoch.

    kernel: "by units" if threads share the units of layers, "by rows" if they share the rows of a batch, "by images" if
        these rows are images for convolutions
    inputs: the form of the inputs in the first layer: "packed", "dense", "lists", "images", or "row blocks", which are
        groups of similar samples of a full batch
    threads: the number of threads
    """

    kernel: Literal["by units", "by rows", "by images"]
    inputs: str
    threads: int


class Trainer:
    """A network of dense layers, its data and the optimizer's state, laid out for the kernels.

    The inputs are not copied if the kernels can use them as they are: a program that changes them meanwhile changes
    numbers. All that kernels compute addresses from, such as labels, is the trainer's own. Without an optimizer, the
    trainer keeps the gradients instead of updating the network. `one_pass` skips preparations that pay off only over
    several epochs.
    """

    def __init__(
        self,
        network: Network,
        data: TrainingData,
        config: LossConfig,
        optimizer: Optimizer | None,
        threads: int | None = None,
        state: TrainerState | None = None,
        one_pass: bool = False,
    ) -> None:
        self._optimizer, self._config, self._one_pass = optimizer, config, one_pass
        self._arrangement = self._arrange(network)
        self._layout = lay_out(network, self._arrangement, self._activations(network))
        self._network = network = _without_arrays(network, self._layout.parameters.dtype)
        rates, self._no_numbers = config.dropout_rates(self._layout.n_weights), as_readonly(np.empty(0, np.int64))
        self._drops_inputs = rates[0] > 0
        # Inputs that are kept have the factor 1 / (1 - rate), which is that of the weighted sums as well.
        self._layout = self._layout._replace(scale=network.dtype.type(network.input_scale / (1 - rates[0])))
        self._dropout = block.Dropout(
            keys=np.zeros(len(rates), np.uint64),
            rates=np.array([(dropout_threshold(rate), 1 - rate, 1 / (1 - rate)) for rate in rates], np.float64),
            numbers=self._no_numbers,
        )
        self._team_size = TeamSize(resolve_threads(threads))
        self._shape = WorkShape(
            self._layout,
            scratch_sizes(self._layout),
            network.n_inputs,
            0 if network.loss.uses_labels else network.n_outputs,
            float(config.label_smoothing),
            self._team_size.most,
        )
        self._records = Records()
        self._work_name: Any = "work"  # that of the record of `_work`
        self._bases: dict[Any, WorkByUnits | WorkByChunks] = {}  # what `_buffers` were made of
        self._buffers: dict[Any, WorkByUnits | WorkByChunks] = {}
        self._work: WorkByUnits | WorkByChunks | None = None
        self._own: list[Any] = []  # each thread's `Scratch` or `OwnByRows`
        self._threads = 0
        self._sparse, self._density = False, 1.0
        self._set_data(data)
        n_slots, size = (1 if optimizer is None else optimizer.n_slots), self._layout.parameters.size
        slot_1, slot_2 = (aligned_zeros(size if n_slots > k else 0, network.dtype) for k in range(2))
        self._state = State(slot_1, slot_2, gradient=aligned_zeros(0, network.dtype))
        self._step, self.epoch, self._sums = 0, 0, EpochSums()
        updates = config if optimizer is not None and isinstance(config, TrainingConfig) else None
        average = None if updates is None else get_average(updates.average)
        # The average of the parameters, laid out like them; of length 0 if the network is the optimizer's own.
        self._average = aligned_zeros(0, network.dtype)
        if isinstance(average, EMA):
            self.average_epoch(1.0)
        if state is not None:
            self._step, self.epoch, self._sums = int(state.steps), int(state.epochs), state.sums
            for slot, arrays in zip((slot_1, slot_2)[:n_slots], state.slots, strict=False):
                self._arrangement.pack(slot, arrays)
            if len(state.slots) > n_slots:  # the network is an average
                self.average_epoch(1.0)
                self._arrangement.pack(self._layout.parameters, state.slots[-1])
        self._finish = Finish(
            max_norm=0.0 if updates is None or updates.max_norm is None else updates.max_norm,
            decay=average.decay if isinstance(average, EMA) else 0.0,
            average=self._average if isinstance(average, EMA) else aligned_zeros(0, network.dtype),
        )
        self._rule = kernel_rule(optimizer, 0.0, config, network.dtype.type)

    def _arrange(self, network: Network) -> Arrangement:
        return Arrangement(network.sizes, network.weights[0].dtype)

    def _activations(self, network: Network) -> list[str]:
        return [layer.activation for layer in network.layers]

    def _set_data(self, data: TrainingData, alike: bool = False) -> None:
        inputs, targets, sample_weight, numbers = data
        network = self._network
        check_shapes(inputs=(inputs, (None, network.n_inputs)))
        self._n_samples = inputs.shape[0]
        matrix = inputs if is_sparse(inputs) else None
        images = inputs if matrix is None else np.empty((0, network.n_inputs), inputs.dtype)
        source, was_sparse = NOT_STRIDED, alike and self._sparse
        self._sparse = matrix is not None
        if matrix is None and images.size > AT_ONCE and not needs_no_strides(images, network.dtype):
            count = interruptible(count_nonzero, images, network.dtype, work=2 * images.size)
            if can_be_strided(images) and count > SPARSE_BELOW * images.size:
                source, images = strided(images, network.dtype)
        images = as_readonly(interruptible(in_kernel_dtype, images, network.dtype, work=2 * images.size))
        # The kernels read strided inputs where they are, so these must stay there and must not be freed.
        self._held: Any = (hold(images), hold(inputs if matrix is None else matrix.data), inputs)
        self._nonzero_inputs = NonzeroInputs(images, matrix, network.dtype)
        if source is NOT_STRIDED and matrix is None:
            self._sparse = was_sparse if alike else self._nonzero_inputs.count <= SPARSE_BELOW * images.size
        if matrix is not None and not alike:
            self._density = matrix.nnz / max(1, self._n_samples * network.n_inputs)
        self._numbers = self._no_numbers if numbers is None else as_readonly(numbers)
        self._data = block.Data(
            images=images,
            labels=as_readonly(targets if network.loss.uses_labels else np.empty(0, np.int64)),
            targets=as_readonly(np.empty((0, 0), network.dtype) if network.loss.uses_labels else targets),
            weights=as_readonly(np.empty(0, network.dtype) if sample_weight is None else sample_weight),
            source=source,
        )
        self._kind = (self._sparse, images.dtype, matrix is not None)  # what the arrays of an epoch depend on
        self._form_of_rows: int | None = None  # the form of sparse inputs for threads that share rows

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Train on other data from now on; the optimizer's state and arrays of the same sizes stay.

        alike: whether they are sparse, or dense, as those before; zeros are then not counted
        """
        before = self._kind
        self._set_data(data, alike)
        if before != self._kind:
            self._work = None
        elif isinstance(self._work, WorkByUnits) and self._nonzero_inputs.is_matrix:
            self._work = self._work._replace(csr=self._nonzero_inputs.matrix_lists(np.uint32))

    def release_data(self) -> None:
        """Let go of the data; `replace_data` comes before the next epoch."""
        nonzero = self._nonzero_inputs
        n_inputs, dtype = self._network.n_inputs, self._data.images.dtype
        self._held, self._n_samples, self._numbers = None, 0, self._no_numbers
        self._nonzero_inputs = empty = NonzeroInputs(np.empty((0, n_inputs), dtype), None, self._network.dtype)
        self._data = self._data._replace(images=as_readonly(np.empty((0, n_inputs), dtype)), source=NOT_STRIDED)
        self._records.forget("data")
        if isinstance(self._work, WorkByUnits) and nonzero.is_matrix:
            self._work = self._work._replace(csr=empty.matrix_lists(np.uint32))
            self._records.clear()
        elif isinstance(self._work, WorkByChunks) and self._sparse:
            self._take_sparse_form(LISTS, empty.empty_lists(), empty.empty_row_blocks())
            self._records.clear()

    def prepare(self, n_rows: int, batch_size: int) -> None:
        """Allocate memory for epochs of `n_rows` rows in batches of `batch_size`, and load or compile their kernel."""
        self._prepare(n_rows, batch_size, None)

    def _prepare(self, n_rows: int, batch_size: int, rows: np.ndarray | None) -> None:
        """`prepare`. `rows`: the rows of the epoch; None: all of them."""
        is_one_batch = n_rows == self._n_samples <= batch_size
        batch_size = min(batch_size, n_rows)
        parameters, real = self._layout.parameters.size, self._network.dtype
        # By rows, each chunk of a batch has its own gradient. That pays off if the gradient is small for the chunk.
        vectors = parameters * real.itemsize // VECTOR
        # Sparse inputs are dropped while they are packed, which only threads that share units do.
        drops_lists = self._sparse and self._drops_inputs
        by_rows = self._shape.sizes.max_panels == 1 and vectors <= VECTORS_PER_ROW * batch_size and not drops_lists
        form = None if by_rows else self._form_by_units(batch_size)
        n_gradients = n_chunks(batch_size) if by_rows else int(batch_size > BLOCK or form == LISTS)
        if self._state.gradient.size < n_gradients * parameters:
            self._state = self._state._replace(gradient=aligned_zeros(n_gradients * parameters, real))
        is_new = not self._has_work(form)
        if is_new:
            self._work, self._own = interruptible(self._make_work, form, work=self._nonzero_inputs.count)
            self._form_of_rows = None
        assert self._work is not None
        if self._work.state is not self._state:
            self._work = self._work._replace(state=self._state)
        if by_rows and self._sparse:
            self._choose_sparse_form(is_one_batch and (rows is None or self._are_different(rows)))
        if is_new:  # the first epoch's time does not include that of loading or compiling the kernel
            epoch, *_ = self._plan(np.empty(0, np.int64), batch_size, 0.0)
            self._kernel().load(*self._arguments(team.Member(0, 1, team.new_barrier()), epoch))

    def _form_by_units(self, batch_size: int) -> int:
        """The form of the inputs for threads that share units."""
        if not self._sparse:
            return DENSE
        if not self._nonzero_inputs.is_matrix:
            return PACKED
        takes_lists = self._density <= LISTS_BELOW and self._density * batch_size >= MANY_USES
        return LISTS if takes_lists and not self._drops_inputs else PACKED_LISTS

    def _has_work(self, form: int | None) -> bool:
        """Whether the arrays are those of `_make_work`."""
        if form is None:
            return isinstance(self._work, WorkByChunks)
        return isinstance(self._work, WorkByUnits) and self._work.inputs[0].form == form

    def _make_work(self, form: int | None) -> tuple[WorkByUnits | WorkByChunks, list[Any]]:
        """The arrays for threads that share units, with inputs in this form, or for threads that share rows."""
        nonzero = self._nonzero_inputs
        if form is None:
            return work_by_rows(self._shape, self._state, nonzero, self._sparse)
        # Always uint32, even for few inputs: another dtype would compile another kernel.
        csr = nonzero.matrix_lists(np.uint32)
        return work_by_units(self._shape, self._state, csr, self._data.images.dtype, form)

    def run_epoch(
        self,
        order: np.ndarray,
        batch_size: int,
        learning_rate: float,
        batches: range | None = None,
        n_rows: int | None = None,
    ) -> EpochResult:
        """Train for one epoch on the rows `order`, as `fastnn.backends.base.Trainer.run_epoch` describes.

        The errors are those of `check_order`.
        """
        batches, rows = check_order(order, batch_size, batches, self._sums.batches, self._n_samples, n_rows)
        n_rows = len(order) if n_rows is None else n_rows
        n_batches = -(-n_rows // batch_size)
        self._prepare(n_rows, batch_size, rows)
        results = self._run_planned(*self._plan(self._in_order_of_inputs(rows), batch_size, learning_rate))
        if results[block.FAILED] >= 0:
            return EpochResult(float("nan"), float("nan"), batches.start + int(results[block.FAILED]))
        self._step += len(batches)
        sums = EpochSums(
            batches.stop, float(results[block.LOSS]), int(results[block.COUNTED]), int(results[block.CORRECT])
        )
        self._sums = sums if sums.batches < n_batches else EpochSums()
        self.epoch += sums.batches == n_batches
        return sums.result(self._network, n_rows, batch_size)

    def _in_order_of_inputs(self, rows: np.ndarray) -> np.ndarray:
        """The rows of an epoch in the order in which the inputs are stored, if they are in row blocks."""
        return self._nonzero_inputs.row_blocks(self._network.sizes[1]).order if self._form() == ROW_BLOCKS else rows

    def _are_different(self, rows: np.ndarray) -> bool:
        counts = interruptible(np.bincount, rows, work=4 * len(rows))
        return int(counts.max()) == 1

    def describe(self) -> Execution:
        """How the last epoch ran; RuntimeError if neither `prepare` nor `run_epoch` has been called."""
        if self._work is None:
            raise RuntimeError("the trainer has no kernel yet: call prepare or run_epoch before describe")
        by_rows = isinstance(self._work, WorkByChunks)
        return Execution("by rows" if by_rows else "by units", FORM_NAMES[self._form()], self._threads)

    def network(self) -> Network:
        """A copy of the network as it is now; SettingsError if a weight or bias is not finite."""
        return self.snapshot().network

    def snapshot(self) -> Snapshot:
        """A copy of the numbers of the network as it is now, from which the network is made when it is needed.

        Raises SettingsError if a weight or bias is not finite.
        """
        template = self._network
        numbers = (self._average if self._average.size else self._layout.parameters).copy()
        if not are_finite(numbers, numbers.dtype):  # `like` names the layer
            return Snapshot.of(template.like(*self._arrangement.unpack(numbers)))
        unpack = self._arrangement.unpack
        return Snapshot(lambda: template.holding(*unpack(numbers)))

    def state(self) -> TrainerState:
        """A copy of the optimizer's state as it is now."""
        return self.state_for_later()()

    def state_for_later(self) -> Callable[[], TrainerState]:
        """A function that returns the optimizer's state as it is now."""
        slots = [slot.copy() for slot in (self._state.slot_1, self._state.slot_2) if slot.size]
        slots += [self._layout.parameters.copy()] if self._average.size else []
        unpack, counts = self._arrangement.unpack, (self._step, self.epoch, self._sums)
        return lambda: TrainerState(tuple(unpack(slot) for slot in slots), *counts)

    def average_epoch(self, share: float) -> None:
        """Move the average of the weights towards them by this share of the distance; 0 ends the average."""
        parameters = self._layout.parameters
        if share == 0:
            self._average = aligned_zeros(0, parameters.dtype)
        elif share == 1:
            self._average = aligned_zeros(parameters.size, parameters.dtype)
            self._average += parameters
        else:
            self._average += parameters.dtype.type(share) * (parameters - self._average)

    def move_to(self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> None:
        """Replace the network's weights and biases."""
        self._arrangement.pack(self._layout.parameters, (weights, biases))

    def loss_and_gradients(self) -> LossAndGradients:
        """Loss and gradients of all the data as one batch. Needs a trainer without an optimizer; updates nothing."""
        loss, accuracy, _ = self.run_epoch(np.arange(self._n_samples), self._n_samples, 0.0)
        n_correct = 0 if np.isnan(accuracy) else round(accuracy * self._n_samples)
        return LossAndGradients(loss, *self._arrangement.unpack(self._state.slot_1), n_correct)

    def gradient_of_part(self, rows: np.ndarray, most_rows: int, weight: float, into: np.ndarray) -> tuple[float, int]:
        """Compute the gradient of a part of a batch. Needs a trainer without an optimizer and without L2.

        rows: (n,) int64, the samples of the part, one or more
        most_rows: the largest number of rows of a part, which decides how threads share the work
        weight: the sum of the sample weights of the whole batch
        into: the part's gradient, laid out like the parameters; overwritten

        Returns the part's share of the mean loss of the batch, NaN if that is not finite, and the number of correctly
        classified samples. `epoch` determines the dropout masks.
        """
        self._prepare(most_rows, most_rows, rows)
        assert self._work is not None
        epoch, max_threads, is_soon_done = self._plan(self._in_order_of_inputs(rows), most_rows, 0.0)
        base, name = self._work, ("work", address_of(into))
        if self._bases.get(name) is not base:  # the arrays of each buffer are prepared once
            self._bases[name], self._buffers[name] = base, base._replace(state=base.state._replace(slot_1=into))
        self._work, self._work_name = self._buffers[name], name
        try:
            results = self._run_planned(epoch._replace(weight=float(weight)), max_threads, is_soon_done)
        finally:
            self._work, self._work_name = base, "work"
        if results[block.FAILED] >= 0:
            return float("nan"), 0
        return float(results[block.LOSS]) / max(1, int(results[block.COUNTED])), int(results[block.CORRECT])

    def slices(self) -> np.ndarray:
        """The parameters in slices to update, the `slices` of `WorkByChunks`."""
        return parameter_slices(self._spans(), self._network.dtype)

    def _spans(self) -> list[Span]:
        return dense_spans(self._layout)

    def _kernel(self) -> Kernel:
        return run_epoch_by_rows if isinstance(self._work, WorkByChunks) else run_epoch_by_units

    def _prepared(self, epoch: block.Epoch) -> Record:
        """An epoch as an argument of the kernel. Most of its fields are those of the epoch before."""
        of = self._records.of
        numbers = [Record(each) for each in (epoch.order, epoch.batch_size, epoch.n_steps)]
        rule, dropout = of("rule", epoch.rule), of("dropout", epoch.dropout)
        return joined(epoch, [*numbers, rule, dropout, Record(epoch.weight), of("finish", epoch.finish)])

    def _arguments(self, member: team.Member, epoch: block.Epoch | Record) -> tuple[Any, ...]:
        """The arguments of the kernel for a member of a team. Those that stay from epoch to epoch are prepared once."""
        layout, data = self._records.of("layout", self._layout), self._records.of("data", self._data)
        own = self._records.of(member.t, self._own[member.t])
        return member, layout, data, epoch, self._records.of(self._work_name, self._work), own

    def _dropout_of_epoch(self) -> block.Dropout:
        if not self._config.dropout:
            return self._dropout
        keys = dropout_keys(self._config.seed, self.epoch, self._layout.n_weights)
        return self._dropout._replace(keys=keys, numbers=self._numbers)

    def flat_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The parameters, and the gradient of a trainer without an optimizer: flat, laid out alike, padding is 0."""
        return self._layout.parameters, self._state.slot_1

    def arrays_of(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The weights and the biases in an array that is laid out like the parameters."""
        return self._arrangement.unpack(flat)

    def write_arrays(self, flat: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> None:
        """Write weights and biases into an array that is laid out like the parameters."""
        self._arrangement.pack(flat, arrays)

    def whole_pass(self) -> Callable[[], tuple[float, int]]:
        """Return a function that computes the loss and the gradient of all the data as one batch.

        It returns the loss, and the number of correctly classified samples. Needs a trainer without an optimizer.
        Everything but the run of the kernel is done here, once.
        """
        n_rows = self._n_samples
        self._prepare(n_rows, n_rows, None)
        order = self._in_order_of_inputs(np.arange(n_rows))
        epoch, max_threads, is_soon_done = self._plan(order, n_rows, 0.0)
        work = cast(Any, self._work)
        call = self._kernel().bind(*self._arguments(team.Member(0, 1, team.new_barrier()), epoch))
        nothing = np.array([0.0, 0.0, 0.0, -1.0])

        def run() -> tuple[float, int]:
            if max_threads == 1 and is_soon_done:
                work.results[:] = nothing
                call()
            else:
                self._run_planned(epoch, max_threads, is_soon_done)
            loss, counted, correct, failed = work.results.tolist()
            return (loss / max(1.0, counted), int(correct)) if failed < 0 else (float("nan"), 0)

        return run

    def _plan(self, order: np.ndarray, batch_size: int, learning_rate: float) -> tuple[block.Epoch, int, bool]:
        """The settings of an epoch, the maximum number of threads, and whether the caller's thread works, too."""
        batch_size = min(int(batch_size), max(1, len(order)))  # an int of another type would compile another kernel
        max_threads, of_row = self._max_threads(batch_size), 3 * self._multiplications()
        multiplications, of_step = of_row * len(order), of_row * batch_size
        is_soon_done = multiplications + len(order) * _PER_ROW + -(-len(order) // batch_size) * _PER_STEP <= SHORT_EPOCH
        is_short = multiplications <= ONE_THREAD_EPOCH or of_step <= ONE_THREAD_STEP
        if learning_rate != self._rule.rate:
            self._rule = kernel_rule(self._optimizer, learning_rate, self._config, self._network.dtype.type)
        dropout = self._dropout_of_epoch()
        epoch = block.Epoch(as_readonly(order), batch_size, self._step, self._rule, dropout, 0.0, self._finish)
        return epoch, 1 if is_short else max_threads, is_soon_done

    def _max_threads(self, batch_size: int) -> int:
        """The number of panels of a layer, or of chunks of a batch: further threads would only wait."""
        return n_chunks(batch_size) if isinstance(self._work, WorkByChunks) else self._shape.sizes.max_panels

    def _multiplications(self) -> int:
        """About the number of multiplications of a row's forward pass."""
        return self._layout.parameters.size

    def _run_planned(self, epoch: block.Epoch, max_threads: int, is_soon_done: bool) -> np.ndarray:
        kernel, results = self._kernel(), cast(Any, self._work).results
        _, results[block.LOSS], results[block.COUNTED], results[block.CORRECT] = self._sums
        results[block.FAILED] = -1
        threads = min(self._team_size.next(), max_threads)
        on_core, prepared = [0.0] * threads, self._prepared(epoch)

        def run(member: team.Member) -> None:
            start = time.thread_time()
            kernel(*self._arguments(member, prepared))
            on_core[member.t] = time.thread_time() - start

        start = time.perf_counter()
        self._threads = team.run_team(run, threads, caller_works=is_soon_done)
        self._team_size.note(time.perf_counter() - start, on_core[: self._threads])
        return cast(np.ndarray, results)

    def _form(self) -> int:
        """The form of the inputs, one of the codes of `fastnn.kernels.inputs`."""
        assert self._work is not None
        inputs = self._own[0].inputs if isinstance(self._work, WorkByChunks) else self._work.inputs[0]
        return inputs.form

    def _choose_sparse_form(self, is_whole: bool) -> None:
        """Prepare the nonzero inputs for threads that share rows: in row blocks if they are faster, otherwise as lists.

        Row blocks need a batch that has each sample exactly once, so that the order of the samples does not matter.
        They also need enough samples for a whole block in every chunk.
        """
        nonzero, n_units = self._nonzero_inputs, self._network.sizes[1]
        may_use_row_blocks = is_whole and not self._one_pass and self._n_samples >= CHUNKS * BLOCK
        use_row_blocks = may_use_row_blocks and nonzero.row_blocks(n_units).is_faster
        form = ROW_BLOCKS if use_row_blocks else LISTS
        if form == self._form_of_rows:
            return
        self._form_of_rows = form
        csr = nonzero.empty_lists() if use_row_blocks else nonzero.lists()
        bsr = nonzero.row_blocks(n_units).bsr if use_row_blocks else nonzero.empty_row_blocks()
        self._take_sparse_form(form, csr, bsr)

    def _take_sparse_form(self, form: int, csr: Csr, bsr: Bsr) -> None:
        for t, own in enumerate(self._own):
            row_block_work = own.inputs.row_blocks._replace(bsr=bsr)
            inputs = own.inputs._replace(form=form, csr=csr, row_blocks=row_block_work)
            self._own[t] = own._replace(inputs=inputs)


def _without_arrays(network: Network, dtype: np.dtype) -> Network:
    """A copy of a network whose weights and biases are empty: the trainer's own are in its layout.

    The caller's network may be given other arrays while the trainer runs.
    """
    template, empty = copy(network), tuple(np.empty(0, dtype) for _ in network.layers)
    template.weights = template.biases = empty
    return template


def kernel_rule(optimizer: Optimizer | None, learning_rate: float, config: LossConfig, real: type[np.floating]) -> Rule:
    """The optimizer's settings as the kernels need them."""
    kind, first, second, epsilon, decay = KEEP_GRADIENT, 0.0, 0.0, 0.0, 0.0
    if isinstance(optimizer, Adam):
        kind, first, second, epsilon = ADAM, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
        decay = optimizer.weight_decay
    elif isinstance(optimizer, PlainOrMomentum):
        kind = SGD if not optimizer.momentum else NESTEROV if optimizer.nesterov else MOMENTUM
        first = optimizer.momentum
    return Rule(
        kind=kind,
        rate=float(learning_rate),
        beta_1=float(first),  # an int or a float32 would compile another kernel
        beta_2=float(second),
        first=real(first),
        rest_1=real(1 - first),
        second=real(second),
        rest_2=real(1 - second),
        epsilon=real(epsilon),
        keep=real(1 - learning_rate * decay),
        l2=float(config.l2),
        divide_l2=config.divide_l2,
    )
