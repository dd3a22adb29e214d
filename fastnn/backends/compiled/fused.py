"""The trainer of the Numba backend: lays out data and optimizer state, and runs epochs on a team of threads."""

import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from fastnn.backends import layerwise
from fastnn.backends.arguments import TrainingData, check_data, check_order, check_run, check_shapes
from fastnn.backends.base import EpochResult, EpochSums, LossAndGradients, TrainerState
from fastnn.backends.clipping import ClippingTrainer
from fastnn.backends.compiled import operations
from fastnn.backends.compiled.inputs import NonzeroInputs
from fastnn.backends.compiled.layout import (
    as_readonly,
    hold,
    in_kernel_dtype,
    lay_out,
    pack,
    scratch_sizes,
    unpack,
)
from fastnn.backends.compiled.strided import (
    AT_ONCE,
    NOT_STRIDED,
    can_be_strided,
    count_nonzero,
    needs_no_strides,
    strided,
)
from fastnn.backends.compiled.work import WorkShape, work_by_rows, work_by_units
from fastnn.backends.threads import TeamSize, resolve_threads
from fastnn.datasets.sparse import is_sparse
from fastnn.interruptible import interruptible
from fastnn.kernels import team
from fastnn.kernels.compiler.arguments import Records
from fastnn.kernels.compiler.kernel import Kernel
from fastnn.kernels.epoch import block
from fastnn.kernels.epoch.by_rows import CHUNKS, WorkByRows, n_chunks, run_epoch_by_rows
from fastnn.kernels.epoch.by_units import WorkByUnits, run_epoch_by_units
from fastnn.kernels.inputs import FORM_NAMES, LISTS, ROW_BLOCKS
from fastnn.kernels.inputs.csr import Csr
from fastnn.kernels.inputs.row_blocks import Bsr
from fastnn.kernels.layout import BLOCK
from fastnn.kernels.ops.activations import ACTIVATION_CODES
from fastnn.kernels.ops.losses import OUTPUT_CODES
from fastnn.kernels.ops.optimizers import ADAM, KEEP_GRADIENT, MOMENTUM, NESTEROV, SGD, Rule, State
from fastnn.kernels.vector.simd import VECTOR
from fastnn.network import Network
from fastnn.network.aligned import aligned_zeros
from fastnn.network.snapshot import Snapshot
from fastnn.optim.config import LossConfig, TrainingConfig
from fastnn.optim.optimizers import LBFGS, Adam, AdamW, Optimizer
from fastnn.optim.optimizers import SGD as PlainOrMomentum
from fastnn.randomness import dropout_keys, dropout_threshold

# If at most this fraction of the inputs is nonzero, the first layer skips zeros.
SPARSE_BELOW = 0.5
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

    kernel: "by units" if threads share the units of layers, "by rows" if they share the rows of a batch
    inputs: the form of the inputs in the first layer: "packed", "dense", "lists", or "row blocks", which are groups of
        similar samples of a full batch
    threads: the number of threads
    """

    kernel: Literal["by units", "by rows"]
    inputs: str
    threads: int


class Trainer:
    """A network that `covers` accepts, its data and the optimizer's state, laid out for the kernels.

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
        self._layout = lay_out(network)
        self._network = network = _without_arrays(network, self._layout.parameters.dtype)
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
        self._work: WorkByUnits | WorkByRows | None = None
        self._own: list[Any] = []  # each thread's `Scratch` or `OwnByRows`
        self._threads = 0
        self._set_data(data)
        n_slots, size = (1 if optimizer is None else optimizer.n_slots), self._layout.parameters.size
        slot_1, slot_2 = (aligned_zeros(size if n_slots > k else 0, network.dtype) for k in range(2))
        self._state = State(slot_1, slot_2, gradient=aligned_zeros(0, network.dtype))
        self._step, self.epoch, self._sums = 0, 0, EpochSums()
        if state is not None:
            self._step, self.epoch, self._sums = int(state.steps), int(state.epochs), state.sums
            for slot, arrays in zip((slot_1, slot_2), state.slots, strict=False):
                pack(network.sizes, slot, arrays)
        real = network.dtype.type
        self._rule = _rule(optimizer, 0.0, config, real)
        self._dropout = block.Dropout(
            keys=np.zeros(self._layout.n_weights - 1, np.uint64),
            threshold=dropout_threshold(config.dropout),
            keep_prob=real(1 - config.dropout),
            scale=real(1 / (1 - config.dropout)),
        )

    def _set_data(self, data: TrainingData) -> None:
        inputs, targets, sample_weight = data
        network = self._network
        check_shapes(inputs=(inputs, (None, network.n_inputs)))
        self._n_samples = inputs.shape[0]
        matrix = inputs if is_sparse(inputs) else None
        images = inputs if matrix is None else np.empty((0, network.n_inputs), inputs.dtype)
        source = NOT_STRIDED
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
            self._sparse = self._nonzero_inputs.count <= SPARSE_BELOW * images.size
        self._data = block.Data(
            images=images,
            labels=as_readonly(targets if network.loss.uses_labels else np.empty(0, np.int64)),
            targets=as_readonly(np.empty((0, 0), network.dtype) if network.loss.uses_labels else targets),
            weights=as_readonly(np.empty(0, network.dtype) if sample_weight is None else sample_weight),
            source=source,
        )
        self._kind = (self._sparse, images.dtype, matrix is not None)  # what the arrays of an epoch depend on
        self._form_of_rows: int | None = None  # the form of sparse inputs for threads that share rows

    def replace_data(self, data: TrainingData) -> None:
        """Train on other data from the next epoch on; the optimizer's state and arrays of the same sizes stay."""
        before = self._kind
        self._set_data(data)
        if before != self._kind:
            self._work = None
        elif isinstance(self._work, WorkByUnits):
            self._work = self._work._replace(csr=self._nonzero_inputs.matrix_lists(np.uint32))

    def release_data(self) -> None:
        """Let go of the data; `replace_data` comes before the next epoch."""
        nonzero = self._nonzero_inputs
        n_inputs, dtype = self._network.n_inputs, self._data.images.dtype
        self._held = None
        self._nonzero_inputs = empty = NonzeroInputs(np.empty((0, n_inputs), dtype), None, self._network.dtype)
        self._data = self._data._replace(images=as_readonly(np.empty((0, n_inputs), dtype)), source=NOT_STRIDED)
        self._records.clear()
        if isinstance(self._work, WorkByUnits) and nonzero.is_matrix:
            self._work = self._work._replace(csr=empty.matrix_lists(np.uint32))
        elif isinstance(self._work, WorkByRows) and self._sparse:
            self._take_sparse_form(LISTS, empty.empty_lists(), empty.empty_row_blocks())

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
        by_rows = self._shape.sizes.max_panels == 1 and vectors <= VECTORS_PER_ROW * batch_size
        n_gradients = n_chunks(batch_size) if by_rows else int(batch_size > BLOCK)
        if self._state.gradient.size < n_gradients * parameters:
            self._state = self._state._replace(gradient=aligned_zeros(n_gradients * parameters, real))
        is_new = type(self._work) is not (WorkByRows if by_rows else WorkByUnits)
        if is_new:
            self._work, self._own = interruptible(self._make_work, by_rows, work=self._nonzero_inputs.count)
            self._form_of_rows = None
        assert self._work is not None
        if self._work.state is not self._state:
            self._work = self._work._replace(state=self._state)
        if by_rows and self._sparse:
            self._choose_sparse_form(is_one_batch and (rows is None or self._are_different(rows)))
        if is_new:  # the first epoch's time does not include that of loading or compiling the kernel
            epoch, *_ = self._plan(np.empty(0, np.int64), batch_size, 0.0)
            self._kernel().load(*self._arguments(team.Member(0, 1, team.new_barrier()), epoch))

    def _make_work(self, by_rows: bool) -> tuple[WorkByUnits | WorkByRows, list[Any]]:
        nonzero = self._nonzero_inputs
        if by_rows:
            return work_by_rows(self._shape, self._state, nonzero, self._sparse)
        # Always uint32, even for few inputs: another dtype would compile another kernel.
        csr = nonzero.matrix_lists(np.uint32)
        return work_by_units(self._shape, self._state, csr, self._data.images.dtype, self._sparse)

    def run_epoch(
        self, order: np.ndarray, batch_size: int, learning_rate: float, batches: range | None = None
    ) -> EpochResult:
        """Train for one epoch on the rows `order`, as `fastnn.backends.base.Trainer.run_epoch` describes.

        The errors are those of `check_order`.
        """
        batches, rows = check_order(order, batch_size, batches, self._sums.batches, self._n_samples)
        n_rows, n_batches = len(order), -(-len(order) // batch_size)
        self._prepare(n_rows, batch_size, rows)
        if self._form() == ROW_BLOCKS:
            rows = self._nonzero_inputs.row_blocks(self._network.sizes[1]).order
        results = self._run_kernel(rows, batch_size, learning_rate)
        if results[block.FAILED] >= 0:
            return EpochResult(float("nan"), float("nan"), batches.start + int(results[block.FAILED]))
        self._step += len(batches)
        sums = EpochSums(
            batches.stop, float(results[block.LOSS]), int(results[block.COUNTED]), int(results[block.CORRECT])
        )
        self._sums = sums if sums.batches < n_batches else EpochSums()
        self.epoch += sums.batches == n_batches
        accuracy = self._network.loss.accuracy(float(sums.correct), min(n_rows, sums.batches * batch_size))
        return EpochResult(sums.loss / max(1, sums.counted), accuracy)

    def _are_different(self, rows: np.ndarray) -> bool:
        counts = interruptible(np.bincount, rows, work=4 * len(rows))
        return int(counts.max()) == 1

    def describe(self) -> Execution:
        """How the last epoch ran; RuntimeError if neither `prepare` nor `run_epoch` has been called."""
        if self._work is None:
            raise RuntimeError("the trainer has no kernel yet: call prepare or run_epoch before describe")
        by_rows = isinstance(self._work, WorkByRows)
        return Execution("by rows" if by_rows else "by units", FORM_NAMES[self._form()], self._threads)

    def network(self) -> Network:
        """A copy of the network as it is now; SettingsError if a weight or bias is not finite."""
        return self.snapshot().network

    def snapshot(self) -> Snapshot:
        """A copy of the numbers of the network as it is now, from which the network is made when it is needed.

        Raises SettingsError if a weight or bias is not finite.
        """
        template, numbers = self._network, self._layout.parameters.copy()
        if not np.isfinite(numbers).all():  # `like` names the layer
            return Snapshot.of(template.like(*unpack(template.sizes, numbers)))
        return Snapshot(lambda: template.holding(*unpack(template.sizes, numbers)))

    def state(self) -> TrainerState:
        """A copy of the optimizer's state as it is now."""
        return self.state_for_later()()

    def state_for_later(self) -> Callable[[], TrainerState]:
        """A function that returns the optimizer's state as it is now."""
        slots = [slot.copy() for slot in (self._state.slot_1, self._state.slot_2) if slot.size]
        sizes, counts = self._network.sizes, (self._step, self.epoch, self._sums)
        return lambda: TrainerState(tuple(unpack(sizes, slot) for slot in slots), *counts)

    def move_to(self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> None:
        """Replace the network's weights and biases."""
        pack(self._network.sizes, self._layout.parameters, (weights, biases))

    def loss_and_gradients(self) -> LossAndGradients:
        """Loss and gradients of all the data as one batch. Needs a trainer without an optimizer; updates nothing."""
        loss, accuracy, _ = self.run_epoch(np.arange(self._n_samples), self._n_samples, 0.0)
        n_correct = 0 if np.isnan(accuracy) else round(accuracy * self._n_samples)
        return LossAndGradients(loss, *unpack(self._network.sizes, self._state.slot_1), n_correct)

    def _kernel(self) -> Kernel:
        return run_epoch_by_rows if isinstance(self._work, WorkByRows) else run_epoch_by_units

    def _arguments(self, member: team.Member, epoch: block.Epoch) -> tuple[Any, ...]:
        """The arguments of the kernel for a member of a team. Those that stay from epoch to epoch are prepared once."""
        layout, data = self._records.of("layout", self._layout), self._records.of("data", self._data)
        own = self._records.of(member.t, self._own[member.t])
        return member, layout, data, epoch, self._records.of("work", self._work), own

    def _dropout_of_epoch(self) -> block.Dropout:
        if not self._config.dropout:
            return self._dropout
        keys = dropout_keys(self._config.seed, self.epoch, self._layout.n_weights - 1)
        return self._dropout._replace(keys=keys)

    def flat_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The parameters, and the gradient of a trainer without an optimizer: flat, laid out alike, padding is 0."""
        return self._layout.parameters, self._state.slot_1

    def whole_pass(self) -> Callable[[], tuple[float, int]]:
        """Return a function that computes the loss and the gradient of all the data as one batch.

        It returns the loss, and the number of correctly classified samples. Needs a trainer without an optimizer.
        Everything but the run of the kernel is done here, once.
        """
        n_rows = self._n_samples
        self._prepare(n_rows, n_rows, None)
        is_sorted = self._form() == ROW_BLOCKS
        order = self._nonzero_inputs.row_blocks(self._network.sizes[1]).order if is_sorted else np.arange(n_rows)
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
        # Threads beyond the number of panels of a layer, or of chunks of a batch, would only wait.
        max_threads = n_chunks(batch_size) if isinstance(self._work, WorkByRows) else self._shape.sizes.max_panels
        multiplications = 3 * self._layout.parameters.size * len(order)
        of_step = 3 * self._layout.parameters.size * batch_size
        is_soon_done = multiplications + len(order) * _PER_ROW + -(-len(order) // batch_size) * _PER_STEP <= SHORT_EPOCH
        is_short = multiplications <= ONE_THREAD_EPOCH or of_step <= ONE_THREAD_STEP
        if learning_rate != self._rule.rate:
            self._rule = _rule(self._optimizer, learning_rate, self._config, self._network.dtype.type)
        epoch = block.Epoch(as_readonly(order), batch_size, self._step, self._rule, self._dropout_of_epoch())
        return epoch, 1 if is_short else max_threads, is_soon_done

    def _run_kernel(self, order: np.ndarray, batch_size: int, learning_rate: float) -> np.ndarray:
        return self._run_planned(*self._plan(order, batch_size, learning_rate))

    def _run_planned(self, epoch: block.Epoch, max_threads: int, is_soon_done: bool) -> np.ndarray:
        kernel, results = self._kernel(), cast(Any, self._work).results
        _, results[block.LOSS], results[block.COUNTED], results[block.CORRECT] = self._sums
        results[block.FAILED] = -1
        threads = min(self._team_size.next(), max_threads)
        on_core = [0.0] * threads

        def run(member: team.Member) -> None:
            start = time.thread_time()
            kernel(*self._arguments(member, epoch))
            on_core[member.t] = time.thread_time() - start

        start = time.perf_counter()
        self._threads = team.run_team(run, threads, caller_works=is_soon_done)
        self._team_size.note(time.perf_counter() - start, on_core[: self._threads])
        return cast(np.ndarray, results)

    def _form(self) -> int:
        """The form of the inputs, one of the codes of `fastnn.kernels.inputs`."""
        assert self._work is not None
        inputs = self._own[0].inputs if isinstance(self._work, WorkByRows) else self._work.inputs[0]
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


def _rule(optimizer: Optimizer | None, learning_rate: float, config: LossConfig, real: type[np.floating]) -> Rule:
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


def covers(network: Network, config: LossConfig | None = None) -> bool:
    """Return whether the fused kernels cover the logits of a network and, if `config` is given, its training.

    They cover chains of dense layers whose activations and output have kernels, and the optimizers SGD, Adam, AdamW and
    L-BFGS, without gradient clipping: the kernels update a layer before they know the gradients of all.
    """
    rule = config.update_rule if isinstance(config, TrainingConfig) else LBFGS()
    return (
        network.is_dense
        and all(layer.activation in ACTIVATION_CODES for layer in network.layers)
        and (config is None or network.output in OUTPUT_CODES)
        and type(rule) in (PlainOrMomentum, Adam, AdamW, LBFGS)
        and not (isinstance(config, TrainingConfig) and config.clips)
    )


def loss_and_gradients(
    network: Network, inp: Any, targets: Any, *, sample_weight: Any = None, epoch: int = 0, **settings: Any
) -> LossAndGradients:
    """Return loss and gradients of one batch: a training step that keeps the gradients and updates nothing."""
    config = LossConfig.from_settings(settings)
    if not covers(network, config):
        return layerwise.loss_and_gradients(operations, network, inp, targets, sample_weight, epoch, settings)
    data = check_data(network, inp, targets, sample_weight, config)
    single = Trainer(network, data, config, None, threads=1, one_pass=True)
    single.epoch = epoch
    return single.loss_and_gradients()


def trainer(
    network: Network,
    images: Any,
    targets: Any,
    optimizer: str | Optimizer = "sgd",
    *,
    sample_weight: Any = None,
    state: TrainerState | None = None,
    **settings: Any,
) -> Trainer | layerwise.Trainer:
    """Check the data and the settings, and return a trainer."""
    data, config = check_run(network, images, targets, sample_weight, {"optimizer": optimizer, **settings})
    return new_trainer(network, data, config, state)


def new_trainer(
    network: Network, data: TrainingData, config: TrainingConfig, state: TrainerState | None = None
) -> Trainer | layerwise.Trainer:
    """Return a trainer: fused if the kernels cover the run, else layer by layer; with clipping, fused gradients.

    Equal arguments give equal bits, for any number of threads.
    """
    ops = operations.with_threads(config.threads)
    if config.clips and covers(network, config.replace(clip_norm=None, clip_value=None)):
        return ClippingTrainer(
            lambda data: Trainer(network, data, config, None, config.threads), ops, network, data, config, state
        )
    if not covers(network, config):
        return layerwise.Trainer(ops, network, data, config, state)
    assert isinstance(config.update_rule, Optimizer)
    return Trainer(network, data, config, config.update_rule, config.threads, state)
