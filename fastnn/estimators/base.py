"""The base class of all estimators: scikit-learn's parameters, checks and attributes around `fastnn.train`.

A fit translates its arguments into those of `train`, which does the training. Initial weights and row orders are drawn
as in scikit-learn, so the same `random_state` gives the same run. `FitWatch` applies scikit-learn's rules for the
learning rate and for stopping.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import sklearn
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from fastnn.backends.arguments import check_sample_weight
from fastnn.backends.base import TrainerState
from fastnn.backends.choice import CHOOSER, continued_backend, expected_epochs_of_fit
from fastnn.backends.threads import resolve_threads
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError, DivergenceError
from fastnn.estimators.blocks import (
    as_images,
    check_blocks,
    encoded,
    first_rows,
    labels_and_predictions,
    outputs_of_blocks,
    standardization,
)
from fastnn.estimators.callbacks import CallbackSupportMixin, FitTasks, has_callbacks
from fastnn.estimators.checkpoint import in_words_of_fit, result_of_ended, saved_fit
from fastnn.estimators.coefficients import CoefficientsMixin
from fastnn.estimators.continuation import Continuation, as_state, keep_first, take
from fastnn.estimators.data_checks import DataChecksMixin
from fastnn.estimators.fit_watch import FitRules, FitWatch, WatchedSchedule, WatchState
from fastnn.estimators.initial_network import column_levels, initial_network
from fastnn.estimators.model_mixin import ModelFileMixin, initial_state
from fastnn.estimators.one_fit import one_fit, reads_one_fit
from fastnn.estimators.parameters import check_parameters
from fastnn.estimators.reported_loss import ReportedLoss
from fastnn.estimators.row_order import ScikitOrder
from fastnn.estimators.rows import rows_to_predict
from fastnn.estimators.stacklevel import users_stacklevel
from fastnn.interruptible import interruptible
from fastnn.memory import check_memory
from fastnn.models.hidden import hidden_outputs, hidden_size
from fastnn.network import Network, Standardization
from fastnn.optim.averaging import SWA, get_average
from fastnn.optim.config import TrainingConfig, as_plain
from fastnn.optim.optimizers import LBFGS, SGD, Adam, Optimizer
from fastnn.optim.schedules import Schedule, get_schedule
from fastnn.streams import BlockedData
from fastnn.training.checkpoint import data_digests
from fastnn.training.history import History
from fastnn.training.train import EpochEnd, TrainingInterrupted, TrainingResult, train

if TYPE_CHECKING:
    import pandas

# The attributes that a fit sets, besides those whose name ends with an underscore.
PRIVATE_FITTED = ("_watch_state", "_history", "_reported", "_state", "_levels")


class NetworkEstimator(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CoefficientsMixin,
    DataChecksMixin,
    ModelFileMixin,
):
    """Base class of the estimators. A subclass encodes its targets, and a mixin makes layers of its parameters."""

    # scikit-learn's HTML view of an estimator links to this page, and then shows the descriptions of parameters.
    _doc_link_module = "fastnn"
    _doc_link_template = "https://fastnn-digits.readthedocs.io/en/stable/api/estimators.html"

    network_: Network
    n_features_in_: int
    _watch_state: WatchState
    _history: History
    _reported: History  # with the losses that scikit-learn reports; the same as `_history` unless they differ
    _state: TrainerState | None

    def _set_parameters(self, arguments: dict[str, Any]) -> None:
        """Set an attribute for each argument of `__init__`, as scikit-learn requires; `arguments` is its `locals()`."""
        self.__dict__.update({name: value for name, value in arguments.items() if name != "self"})

    # --- Fitting ---------------------------------------------------------------------------------------------------
    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: Any,
        *,
        incremental: bool,
        tasks: bool = False,
        checkpoint: Any = None,
    ) -> Self:
        """Do the work of `fit` or, if `incremental`, of `partial_fit`, after their parameter checks.

        `tasks` enables scikit-learn's callbacks. The local `warm` says that training starts from the current weights.
        """
        warm = hasattr(self, "network_") and (self.warm_start or incremental)
        self._check_call(y, warm, incremental)
        arguments, begun, blocks = (X, y), saved_fit(checkpoint, warm), None
        if isinstance(X, BlockedData):
            check_blocks(self, X, y, validation_data is not None)
            X, given = first_rows(self, X, reset=not warm), X
            self._check_image_shape(as_images(X, given), warm)
            targets, blocks = encoded(self, given, warm=warm, incremental=incremental)
        else:
            X, y = self._check_data(X, y, reset=not warm)
            self._check_image_shape(arguments[0], warm)
            targets = self._encode(y, warm=warm, incremental=incremental)
        weight = self._check_weights(sample_weight, len(targets if blocks is None else blocks))
        total_weight = _product(weight, self._class_weight_of(targets, blocks))
        random_state = check_random_state(self.random_state)
        if warm:
            network = self._previous_network(targets)
        else:
            transform = None if blocks is None or not self.standardize else standardization(blocks)
            network = self._new_network(X, targets, random_state, incremental, transform)
        watch_state, history, state = self._state_before() if warm else initial_state()
        held_out, held_weight = self._check_validation(validation_data, X)
        if self.early_stopping and held_out is None and self.solver != "lbfgs":
            rows, held = self._split(targets, random_state)
            held_out = Dataset(X, targets).take(held)
            held_weight = None if weight is None else weight[held]
            X, targets = interruptible(X.__getitem__, rows, work=len(rows) * X.shape[1]), targets[rows]
            total_weight = None if total_weight is None else total_weight[rows]
        data: Dataset | BlockedData
        if blocks is not None:
            blocks.image_shape, data = self._picture_shape, blocks
        else:
            data = Dataset(X, targets, image_shape=self._picture_shape, name="the training data")
        resume = state if incremental and self._can_resume(state) else None
        watch_state = replace(watch_state, rate=self.learning_rate_init) if resume is None else watch_state
        watch = self._make_watch(watch_state, network, len(data), total_weight, held_out, held_weight, incremental)
        epochs = 1 if incremental else self.max_iter
        config = self._config(watch, len(data), random_state, warm, epochs, blocked=blocks is not None)
        self.n_outputs_, self.n_layers_, self.out_activation_ = network.n_outputs, len(network.sizes), network.output
        callbacks = [FitTasks(self, *arguments, sample_weight)] if tasks and has_callbacks(self) else []

        def trained() -> TrainingResult:
            weight = check_sample_weight(total_weight, len(data), network.dtype)
            if begun is not None:
                digests = partial(data_digests, data, weight, held_out)
                threads = resolve_threads(config.threads)  # as `train` saves them
                ended = config.replace(threads=threads)
                result = result_of_ended(begun, network, digests, [watch, config.shuffle], ended)
                if result is not None:
                    return result
            return train(
                network, data, validation=held_out, callbacks=[watch, *callbacks], config=config,
                sample_weight=weight, checkpoint=checkpoint, resume=resume if begun is None else begun,
            )  # fmt: skip

        result = self._stored_result(trained, watch, watch_state, history)
        if incremental:
            keep_first(self, result)
        elif result.stopped in ("epochs", "stalled", "diverged"):
            self._warn_of_convergence(result)
        for callback in callbacks:
            callback.end()
        return self

    def _check_call(self, y: Any, warm: bool, incremental: bool) -> None:
        """Raise ValueError if this fit is impossible, whatever the data."""
        if isinstance(y, str):
            raise ValueError(f"y is the string {y!r}, expected one target per row of X")
        if not warm and hasattr(self, "network_"):
            self._check_chain()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True, as it runs one epoch")
        if incremental and isinstance(get_average(self.average), SWA):
            raise ValueError(f"partial_fit does not support average={self.average!r}, as it runs one epoch")

    def _config(
        self,
        watch: FitWatch,
        n_samples: int,
        random_state: np.random.RandomState,
        warm: bool,
        epochs: int,
        blocked: bool = False,
    ) -> TrainingConfig:
        """Return the settings of `train`. `watch` gives the learning rate.

        Rows are drawn as in scikit-learn, but for data in blocks, whose order `train` draws.
        """
        began = getattr(self, "backend_", None) if warm else None  # what goes on stays on its backend
        is_random = np.any(self.dropout) or self.augment is not None or (blocked and self.shuffle)
        common = {
            "epochs": epochs, "optimizer": self._optimizer(), "l2": self.alpha, "divide_l2": True,
            "dropout": self.dropout, "seed": int(random_state.randint(2**31 - 1)) if is_random else 0,
            "learning_rate": self.learning_rate_init, "threads": self.n_threads,
            "backend": continued_backend(self.backend, began),
            "clip_norm": self.clip_norm, "clip_value": self.clip_value, "max_norm": self.max_norm,
            "average": self.average, "augment": self.augment,
        }  # fmt: skip
        schedule = self._schedule()
        if self.solver == "lbfgs":
            return TrainingConfig(**common, batch_size=None)
        order: Any = bool(self.shuffle)
        if blocked:
            common |= {"buffer_blocks": self.buffer_blocks, "memory": self.memory}
        elif self.shuffle:
            order = ScikitOrder(n_samples, random_state)
        return TrainingConfig(
            **common,
            batch_size=self._batch_size(n_samples),
            schedule=WatchedSchedule(watch, schedule, self.max_iter),
            shuffle=order,
        )

    def _stored_result(
        self, train: Callable[[], TrainingResult], watch: FitWatch, before: WatchState, past: History
    ) -> TrainingResult:
        """Return the result of a training after `_store`; an interrupted one is stored, too, and raises its error.

        before: the state of `watch` before the training
        """
        try:
            result = train()
        except TrainingInterrupted as interrupt:
            watch.catch_up(interrupt.result, before)
            self._store(interrupt.result, watch, past)
            raise
        except DivergenceError as error:
            kept = watch.kept(error)
            if kept is None:
                raise
            result = kept
        self._store(result, watch, past)
        return result

    def _store(self, result: TrainingResult, watch: FitWatch, past: History) -> None:
        """Set the fitted attributes and the state for later fits. `past` holds the epochs of the previous fits."""
        self.network_, self._state, state = result.network, result.state, watch.state
        if watch.best is not None:
            self.network_, self._state = watch.best, None  # the optimizer state belongs to the last epoch
        reported = self._reported if len(past) else past
        self._watch_state, self._history = state, past.continued(result.history)
        if watch.reports_its_own_loss:
            pairs = zip(result.history, watch.losses, strict=False)
            self._reported = reported.continued(replace(record, loss=loss) for record, loss in pairs)
        else:
            self._reported = self._history
        self.n_iter_, self.t_, self.backend_ = len(result.history), state.seen, result.backend
        self.loss_, validated = watch.last_loss(result.loss), bool(state.scores)
        self.best_validation_score_ = state.best_score if validated else None
        self.best_loss_ = None if self.early_stopping and validated else state.best_loss

    @property
    def loss_curve_(self) -> list[float]:
        """The loss of each epoch since the weights were drawn, as scikit-learn reports it."""
        self._check_attribute("loss_curve_")
        return self._reported.column("loss").tolist()

    @property
    def validation_scores_(self) -> list[float] | None:
        """The validation score of each epoch since the weights were drawn; None without validation data."""
        self._check_attribute("validation_scores_")
        return [*self._watch_state.scores] or None

    def _check_attribute(self, name: str) -> None:
        """Raise AttributeError unless a fit has set the attributes."""
        if "n_iter_" not in vars(self):
            raise AttributeError(f"this {type(self).__name__} has no {name} before it is fitted")

    @contextmanager
    def _fitting(self) -> Iterator[Continuation | None]:
        """Check the parameters, allow one fit at a time, and restore the attributes if it fails, unless by Ctrl-C.

        Yields what a `partial_fit` has left for this fit, if it can go on from there.
        """
        check_parameters(self)
        with one_fit(self) as before:
            try:
                yield take(self)
            except TrainingInterrupted:
                raise
            except BaseException as error:
                in_words_of_fit(error)
                for name in [name for name in vars(self) if _is_fitted(name)]:
                    delattr(self, name)
                self.__dict__.update({name: value for name, value in before.items() if _is_fitted(name)})
                raise

    def _new_network(
        self,
        X: Any,
        targets: np.ndarray,
        random_state: np.random.RandomState,
        incremental: bool,
        transform: Standardization | None = None,
    ) -> Network:
        """Return a network with initial weights, and keep the levels of X.

        transform: the standardization of all training inputs, if X are some of them
        """
        self._levels = column_levels(X)
        return initial_network(self, X, self._output(targets), random_state, incremental, transform)

    def _state_before(self) -> tuple[WatchState, History, TrainerState | None]:
        """Return the state that the fit before has left, like `initial_state`."""
        return self._watch_state, self._history, as_state(self._state)

    def _previous_network(self, targets: np.ndarray) -> Network:
        """Return the current network with the current parameters; raise ValueError if it does not match the targets."""
        expected = self._output(targets)
        if (self.network_.output, self.network_.n_outputs) != expected:
            was = f"{self.n_outputs_} {self.network_.output} outputs"
            raise ValueError(f"y needs {expected[1]} {expected[0]} outputs, expected {was} as in the previous fit")
        network = self.network_
        weights, biases = ([array.astype(self._dtype) for array in each] for each in (network.weights, network.biases))
        kept = network.standardization
        if bool(self.standardize) != (kept is not None):
            raise ValueError(f"standardize is {self.standardize}, expected {kept is not None} as in the previous fit")
        shape, layers = self._continued_chain(network)
        return Network(
            weights, biases, input_scale=self.input_scale if kept is None else kept, output=network.output,
            layers=layers, input_shape=shape, statistics=network.statistics,
        )  # fmt: skip

    def _optimizer(self) -> Optimizer | LBFGS:
        if self.solver == "adam":
            return Adam(self.beta_1, self.beta_2, self.epsilon)
        if self.solver == "sgd":
            return SGD(self.momentum, nesterov=bool(self.nesterovs_momentum and self.momentum > 0))
        return LBFGS(self.tol, self.max_fun)

    def _can_resume(self, state: Any) -> bool:
        """Whether the optimizer can resume from the state of a previous fit."""
        optimizer = self._optimizer()
        if state is None or isinstance(optimizer, LBFGS):
            return False
        if len(state.slots) != optimizer.n_slots + (self.average is not None):
            return False
        return all(weights[0].dtype == self._dtype for weights, _ in state.slots)

    def _schedule(self) -> Schedule:
        """Return the user's schedule; ValueError without a learning rate, or if `learning_rate` changes it too."""
        if self.schedule is None:
            return get_schedule("constant")
        if self.solver == "lbfgs":
            raise ValueError("schedule is set, expected None for solver 'lbfgs', which has no learning rate")
        if self.learning_rate != "constant":
            raise ValueError(f"learning_rate is {self.learning_rate!r}, expected 'constant' together with a schedule")
        return get_schedule(self.schedule)

    def _make_watch(
        self,
        state: WatchState,
        network: Network,
        n_samples: int,
        weight: np.ndarray | None,
        held_out: Dataset | None,
        held_weight: np.ndarray | None,
        incremental: bool,
    ) -> FitWatch:
        """Return what observes a fit. `weight` is that of each sample, `held_weight` that of the validation data."""

        def score(end: EpochEnd) -> float:
            assert held_out is not None
            assert end.validation_logits is not None
            return self._score_logits(end.validation_logits, held_out.labels, held_weight)

        learning_rate = self.learning_rate if self.solver == "sgd" else "constant"
        by_score = self.early_stopping and self.solver != "lbfgs"
        tol, n_iter_no_change = self.tol, self.n_iter_no_change
        loss = self._reported_loss(network, n_samples, weight)
        if self.solver == "lbfgs":  # it stops by its own rules and has no rate that depends on the samples
            tol, n_iter_no_change, n_samples = 0.0, np.inf, 0
        schedule = as_plain(self.schedule)
        rules = FitRules(
            learning_rate, self.learning_rate_init, self.power_t, tol, n_iter_no_change, by_score, schedule
        )
        scored = None if held_out is None else score
        watch = FitWatch(state, rules, n_samples, scored, bool(self.verbose), network, loss)
        watch.expected_epochs = expected_epochs_of_fit(self.max_iter, self.early_stopping, incremental)
        return watch

    def _reported_loss(self, network: Network, n_samples: int, weight: np.ndarray | None) -> ReportedLoss:
        """Return the conversion of this fit's losses to those of scikit-learn."""
        return ReportedLoss()

    def _batch_size(self, n_samples: int) -> int:
        if self.batch_size == "auto":
            return min(200, n_samples)
        if self.batch_size > n_samples:
            message = f"batch_size={self.batch_size} is more than the {n_samples} samples and is clipped"
            warnings.warn(message, stacklevel=users_stacklevel())
        return min(int(self.batch_size), n_samples)

    def _split(self, targets: np.ndarray, random_state: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """Return the training rows and the rows held out for early stopping, drawn as in scikit-learn."""
        if self.validation_fraction == 0:
            raise ValueError("validation_fraction is 0, expected more than 0 with early_stopping, or validation_data")
        rows, held = train_test_split(
            np.arange(len(targets)), random_state=random_state, test_size=self.validation_fraction,
            stratify=self._stratify(targets),
        )  # fmt: skip
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset: it has "
                f"{len(held)} samples, expected at least 2"
            )
        return rows, held

    def _warn_of_convergence(self, result: TrainingResult) -> None:
        if result.stopped == "diverged":
            found = f"the loss was not finite in epoch {self.n_iter_}, so the best network before is kept"
        elif result.stopped == "stalled":
            found = "the line search found no lower loss; scale the data"
        elif self.solver == "lbfgs" and self.n_iter_ < self.max_iter:
            found = f"it reached max_fun={self.max_fun} evaluations; raise max_fun"
        else:
            found = f"it reached max_iter={self.max_iter}; raise max_iter"
        message = f"{type(self).__name__} with solver {self.solver!r} did not converge: {found}"
        warnings.warn(message, ConvergenceWarning, stacklevel=users_stacklevel())

    def _total_weight(
        self, sample_weight: Any, targets: np.ndarray, blocks: BlockedData | None = None
    ) -> np.ndarray | None:
        """Return the weight of each sample, its class weight included; None if there are no weights."""
        weight = self._check_weights(sample_weight, len(targets if blocks is None else blocks))
        return _product(weight, self._class_weight_of(targets, blocks))

    def _class_weight_of(self, targets: np.ndarray, blocks: BlockedData | None) -> np.ndarray | None:
        """Return `_class_weight` of the targets, or of those of all blocks, which are read only if it needs them."""
        if blocks is not None:
            if getattr(self, "class_weight", None) is None:
                return None
            targets = np.concatenate(list(blocks.labels()))
        return self._class_weight(targets)

    def _class_weight(self, targets: np.ndarray) -> np.ndarray | None:
        """Return the class weight of each sample; None for regression."""
        return None

    # --- Prediction ------------------------------------------------------------------------------------------------
    def _outputs(self, X: Any) -> np.ndarray:
        """Return the network's outputs, probabilities or numbers, (N, C)."""
        if isinstance(X, BlockedData):

            def predicted(core: Network, rows: Any, backend: str) -> np.ndarray:
                return CHOOSER.predictor(backend, core, rows).predict_proba(core, rows, self.n_threads)

            return outputs_of_blocks(self, X, predicted)
        rows = rows_to_predict(self, X)
        check_finite = type(rows) is np.ndarray and self.network_.standardization is None
        if rows is None:
            check_is_fitted(self, "network_")
            rows = self._check_data(X, reset=False)
        network, n_rows = self.network_, rows.shape[0]
        check_memory(n_rows * network.n_outputs * network.dtype.itemsize, f"the outputs of {n_rows:,} rows of X")
        engine = CHOOSER.predictor(self.backend, network, rows)
        outputs = None
        with suppress(DataError) if check_finite else nullcontext():
            outputs = engine.predict_proba(network, rows, self.n_threads, check_finite)
        if outputs is None:  # scikit-learn's checks refuse the rows in its words, unless its settings tell it not to
            outputs = engine.predict_proba(network, self._check_data(X, reset=False), self.n_threads)
        if self.network_.standardization is not None and not np.isfinite(outputs).all():
            raise ValueError(f"Input X contains a value too large for {self.network_.dtype} after its standardization")
        return outputs

    def _labels_and_predictions(self, data: BlockedData) -> tuple[list[np.ndarray], np.ndarray]:
        """Return what `labels_and_predictions` returns, for `score`."""
        return labels_and_predictions(self, data)

    @reads_one_fit
    def transform(self, X: Any, layer: int | None = None) -> np.ndarray:
        """Return the outputs of a hidden layer: the features that the layer after it works on.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (N, D)
            The samples, or what else `fit` takes.
        layer : int or None
            The hidden layer: 0 is the first one, -1 the last one. None: the parameter `transform_layer`, which
            `get_feature_names_out` and data frames as output (`set_output`) refer to.

        Returns
        -------
        ndarray of shape (N, H), in the estimator's dtype
            H is the number of outputs of the layer. Without hidden layers, the scaled inputs of shape (N, D).

        Raises
        ------
        ValueError
            If there is no such layer, X does not fit, or a layer of another size is asked for as a data frame.
        """
        check_is_fitted(self, "network_")
        if layer is None:
            layer = self.transform_layer
        elif hidden_size(self.network_, layer) != self._n_features_out and _returns_frames(self):
            raise ValueError(f"layer is {layer}, expected transform_layer={layer} for data frames as output")
        if isinstance(X, BlockedData):
            return outputs_of_blocks(
                self,
                X,
                lambda core, rows, backend: hidden_outputs(core, rows, layer, backend=backend, threads=self.n_threads),
            )
        X = self._check_data(X, reset=False)
        return hidden_outputs(self.network_, X, layer, backend=self.backend, threads=self.n_threads)

    @property
    def _n_features_out(self) -> int:
        """The number of columns that `transform` returns."""
        return hidden_size(self.network_, self.transform_layer)

    @property
    @reads_one_fit
    def history_(self) -> "pandas.DataFrame":
        """One row per epoch of all fits since the weights were drawn. `EpochRecord` describes the columns."""
        check_is_fitted(self, "network_")
        return self._history.to_frame()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._accepts_sparse
        tags.transformer_tags.preserves_dtype = []  # the dtype is a parameter
        return tags


def _returns_frames(estimator: NetworkEstimator) -> bool:
    """Return whether scikit-learn turns the result of `transform` into a data frame, as `set_output` says."""
    own = getattr(estimator, "_sklearn_output_config", {}).get("transform")
    return bool((sklearn.get_config()["transform_output"] if own is None else own) != "default")


def _product(weight: np.ndarray | None, factor: np.ndarray | None) -> np.ndarray | None:
    """Return the product of two weights of each sample, of which None stands for 1."""
    if weight is None or factor is None:
        return factor if weight is None else weight
    return weight * factor


def _is_fitted(name: str) -> bool:
    """Return whether an attribute is set by a fit."""
    return name.endswith("_") or name in PRIVATE_FITTED


def has_epochs(estimator: NetworkEstimator) -> bool:
    """Return True; raise AttributeError for L-BFGS, which has no epochs and therefore no `partial_fit`."""
    if estimator.solver == "lbfgs":
        raise AttributeError("solver is 'lbfgs', expected 'sgd' or 'adam' for partial_fit")
    return True


if_epochs = available_if(has_epochs)
