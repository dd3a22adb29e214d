"""`DaskMLPClassifier` and `DaskMLPRegressor`: the estimators of `fastnn` on arrays and data frames of Dask."""

import inspect
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import dask
import dask.array as da
import numpy as np
from distributed import Client
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastnn.checks import is_count, short
from fastnn.dask.cluster import SYNCHRONOUS, Engine, current_client, engine_for
from fastnn.dask.collections import (
    BlocksOfCollections,
    ClassNumbers,
    Encoder,
    Targets,
    blocks_of,
    gathered,
    is_collection,
    row_blocks,
)
from fastnn.dask.shares import consecutive_blocks
from fastnn.dask.training import (
    MAX_REPLICAS,
    Options,
    Rounds,
    Source,
    digests_of,
    source_of_blocks,
    source_of_data,
    train_source,
)
from fastnn.datasets.convert import describe
from fastnn.errors import DataError, SettingsError
from fastnn.estimators import MLPClassifier, MLPRegressor
from fastnn.estimators.blocks import as_images, check_no_y, encoded, first_rows, labels_and_predictions
from fastnn.estimators.checkpoint import result_of_ended, saved_fit
from fastnn.estimators.data_checks import joined_validation
from fastnn.estimators.fit_watch import FitWatch
from fastnn.estimators.initial_network import ROWS_FOR_LEVELS
from fastnn.estimators.model_mixin import initial_state
from fastnn.estimators.network_classifier import NO_THRESHOLD
from fastnn.estimators.parameters import NONE, RULES, Rule, instance, one_of
from fastnn.models.blocks import backend_for
from fastnn.network import Network, Standardization
from fastnn.network.standardization import merged_moments, moments
from fastnn.streams import BlockedData, blocks_ahead
from fastnn.training.callbacks import EpochEnd
from fastnn.training.result import TrainingResult

_OWN: dict[str, Any] = {"replicas": 8, "local_epochs": 1, "client": None}
_OWN_RULES = {
    "replicas": Rule(f"a whole number from 1 to {MAX_REPLICAS}", lambda value: is_count(value, 1, MAX_REPLICAS)),
    "local_epochs": Rule("a whole number, 1 or more", is_count),
    "client": instance("a distributed.Client", Client) | one_of(SYNCHRONOUS) | NONE,
}
_NO_TARGETS = "y is None, expected the targets of X: a Dask array, series or data frame"
_SEARCH_HINT = "searches such as GridSearchCV take fastnn.{0}, whose fits are tasks of Dask by joblib's backend"


def _with_own_parameters(base: type) -> Callable[..., None]:
    """Return a constructor with the parameters of `base`, and those of the cluster as keywords after them."""
    before = [*inspect.signature(base.__init__).parameters.values()]  # type: ignore[misc]
    own = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in _OWN.items()]
    signature = inspect.Signature([*before, *own])

    def __init__(self: Any, *arguments: Any, **parameters: Any) -> None:
        bound = signature.bind(self, *arguments, **parameters)
        bound.apply_defaults()
        self._set_parameters(bound.arguments)

    __init__.__signature__ = signature  # type: ignore[attr-defined]  # which scikit-learn reads
    return __init__


class _Given(NamedTuple):
    """What a fit asks of its data, in whatever form they are.

    n_rows : the number of rows
    rows : the first rows
    targets : targets of the network for some rows, or for none
    weight : an array whose sum is that of the weights of all rows; None: all of them are 1
    standardization : returns that of all rows
    source : returns the data for a network, for `train_source`
    """

    n_rows: int
    rows: Any
    targets: np.ndarray
    weight: np.ndarray | None
    standardization: Callable[[], Standardization]
    source: Callable[[Network], Source]


class ClusterMixin:
    """Fits an estimator on a cluster, and predicts there."""

    _rules = RULES | _OWN_RULES
    _local: ClassVar[type]

    client: Any
    replicas: int
    local_epochs: int

    # --- The client --------------------------------------------------------------------------------------------------
    @property
    def client_(self) -> Any:
        """The client that a fit uses: the parameter `client`, or the current one of Dask."""
        return current_client() if self.client is None else self.client

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, "client": SYNCHRONOUS if state["client"] == SYNCHRONOUS else None}

    def __sklearn_clone__(self: Any) -> Any:
        parameters = {
            name: value if name == "client" else clone(value, safe=False)
            for name, value in self.get_params(deep=False).items()
        }
        return type(self)(**parameters)

    def to_local(self: Any) -> Any:
        """Return the fitted estimator for arrays in memory, which needs neither a client nor Dask.

        Returns
        -------
        MLPClassifier or MLPRegressor
            With the same parameters, but for `replicas`, `local_epochs` and `client`, and the same attributes.
        """
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name not in _OWN}
        local = self._local(**parameters)
        local.__dict__.update({name: value for name, value in self.__dict__.items() if name not in _OWN})
        return local

    # --- Fitting -----------------------------------------------------------------------------------------------------
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: Any = None,
    ) -> Self:
        """Train on X and y, in rounds of `local_epochs` epochs.

        Parameters
        ----------
        X : Dask array of shape (N, D), data frame, or BlockedData
            The samples, in blocks of rows. Each block of Dask is computed once, and stays in the memory of the workers.
            Those of BlockedData have the labels, too, and are read by the workers in every round.
        y : Dask array, series or data frame of shape (N,) or (N, C); None for BlockedData
            The targets, in the same blocks.
        sample_weight : Dask array or series of shape (N,), or None
            The weight of each sample; an array for BlockedData.
        validation_data : (X, y) or (X, y, sample_weight), or None
            Arrays, or collections of Dask, which are computed and come to this process. `early_stopping` needs them.
        X_val, y_val, sample_weight_val
            Another way to give `validation_data`.
        checkpoint : str, path or Checkpoint, or None
            A file for the state of the fit. If it exists, the fit goes on from it, to the same bits as one that was
            never stopped. `random_state` must be an integer.

        Returns
        -------
        self

        Raises
        ------
        SettingsError, DataError
            If a parameter or the data are invalid, or do not fit the cluster. Both are ValueErrors.
        WorkerError
            If the workers cannot go on.
        """
        validation = joined_validation(validation_data, X_val, y_val, sample_weight_val)
        is_blocked = isinstance(X, BlockedData)
        if not is_blocked and not is_collection(X):
            local = self._local.__name__
            hint = f"for data in memory, use fastnn.{local}; {_SEARCH_HINT.format(local)}"
            raise SettingsError(f"X is {describe(X)}, expected a Dask array or data frame, or BlockedData: {hint}")
        if not is_blocked and y is None:
            raise SettingsError(_NO_TARGETS)
        with self._fitting(), engine_for(self.client) as engine:  # type: ignore[attr-defined]
            if isinstance(validation, tuple | list):
                validation = tuple(gathered(part, engine) for part in validation)
            warm = hasattr(self, "network_") and self.warm_start  # type: ignore[attr-defined]
            self._check_parts(validation, warm)
            begun = saved_fit(checkpoint, warm)
            given = (self._given_blocks if is_blocked else self._given_collections)(X, y, sample_weight, engine, warm)
            self._fit_given(given, is_blocked, engine, validation, warm, checkpoint, begun)
        return self

    def _given_collections(self: Any, X: Any, y: Any, sample_weight: Any, engine: Engine, warm: bool) -> _Given:
        """Compute the blocks of Dask's collections, and check them."""
        blocks = blocks_of(X, y, sample_weight, engine)
        rows = blocks.first_rows(engine, ROWS_FOR_LEVELS)
        self._set_columns(blocks, warm)
        self._check_image_shape(rows, warm)
        encode, targets = self._encoder(blocks, warm)
        class_weight = self._weight_of_classes(blocks, encode)
        dtype = rows.dtype if self.standardize else self._dtype
        return _Given(
            len(blocks),
            rows,
            targets,
            np.array([blocks.weight]),
            lambda: Standardization.from_moments(len(blocks), *blocks.moments(engine)),
            lambda network: source_of_blocks(blocks, dtype, encode, class_weight, self._picture_shape),
        )

    def _given_blocks(self: Any, X: BlockedData, y: Any, sample_weight: Any, engine: Engine, warm: bool) -> _Given:
        """Check data in blocks, of which this process reads the first rows and the labels."""
        check_no_y(X, y)
        rows = first_rows(self, X, reset=not warm)
        self._check_image_shape(as_images(rows, X), warm)
        targets, blocks = encoded(self, X, warm=warm, incremental=False)
        blocks.image_shape = self._picture_shape
        weight = self._total_weight(sample_weight, targets, blocks)

        def standardization() -> Standardization:
            views = consecutive_blocks(X.without_labels(), self.replicas)
            parts = engine.call(_moments_of_blocks, views, [view.name for view in views])
            return Standardization.from_moments(*merged_moments(each for part in parts for each in part))

        return _Given(
            len(X), rows, targets, weight, standardization, lambda network: source_of_data(network, blocks, weight)
        )

    def _fit_given(
        self: Any,
        given: _Given,
        is_blocked: bool,
        engine: Engine,
        validation: Any,
        warm: bool,
        checkpoint: Any,
        begun: Any,
    ) -> None:
        """Do the work of `fit`, after the checks of parameters and data."""
        random_state = check_random_state(self.random_state)
        if warm:
            network = self._previous_network(given.targets)
        else:
            transform = given.standardization() if self.standardize else None
            network = self._new_network(given.rows, given.targets, random_state, False, transform)
        watch_state, history, _ = self._state_before() if warm else initial_state()
        held_out, held_weight = self._check_validation(validation, given.rows)
        watch_state = replace(watch_state, rate=self.learning_rate_init)
        n_rows = given.n_rows
        watch = self._make_watch(watch_state, network, n_rows, given.weight, held_out, held_weight, False)
        config = self._config(watch, n_rows, random_state, warm, epochs=self.max_iter, blocked=is_blocked)
        if not is_blocked:
            config = config.replace(shuffle=bool(self.shuffle), seed=int(random_state.randint(2**31 - 1)))
        self.n_outputs_, self.n_layers_, self.out_activation_ = network.n_outputs, len(network.sizes), network.output
        source = given.source(network)
        each_epoch = _EachEpoch(watch)
        options = Options(self.replicas, self.local_epochs, [each_epoch], checkpoint)

        def trained() -> TrainingResult:
            if begun is not None:
                digests = partial(digests_of, source, held_out)
                parts = [Rounds(self.replicas, self.local_epochs), each_epoch]
                result = result_of_ended(begun, network, digests, parts, config)
                if result is not None:
                    return result
            return train_source(network, source, held_out, engine, config, begun, options)

        result = self._stored_result(trained, watch, watch_state, history)
        if result.stopped in ("epochs", "diverged"):
            self._warn_of_convergence(result)

    def _check_parts(self: Any, validation: Any, warm: bool) -> None:
        """Raise SettingsError for parameters that need all rows in one process."""
        if not warm and hasattr(self, "network_"):
            self._check_chain()
        if self.solver == "lbfgs":
            raise SettingsError("solver is 'lbfgs', expected 'sgd' or 'adam': L-BFGS needs all rows in one process")
        if self.early_stopping and validation is None:
            raise SettingsError(
                "early_stopping is True, expected validation_data with it: no rows are held out of blocks"
            )

    def _set_columns(self: Any, blocks: BlocksOfCollections, warm: bool) -> None:
        """Set the attributes of the columns; with a warm start, raise DataError if they are others than before."""
        names = None if blocks.feature_names is None else np.array(blocks.feature_names, dtype=object)
        if warm and blocks.n_inputs != self.n_features_in_:
            raise DataError(f"X has {blocks.n_inputs} columns, expected {self.n_features_in_} as in the previous fit")
        self.n_features_in_ = blocks.n_inputs
        if names is not None:
            self.feature_names_in_ = names
        else:
            self.__dict__.pop("feature_names_in_", None)

    # --- Predicting --------------------------------------------------------------------------------------------------
    def predict(self, X: Any) -> Any:
        """Return what `to_local().predict` returns for each block of rows: a lazy Dask array, (N,) or (N, C).

        Parameters
        ----------
        X : Dask array of shape (N, D), data frame, or BlockedData

        Returns
        -------
        dask.array.Array, or ndarray for BlockedData
            Its blocks of rows are those of X; of a frame, their lengths are unknown until they are computed. Workers
            read BlockedData and predict it at once, and the results come to this process.
        """
        return self._lazily("predict", X)

    def transform(self, X: Any, layer: int | None = None) -> Any:
        """Return the outputs of a hidden layer, as `to_local().transform` does: a lazy Dask array, (N, H).

        Parameters
        ----------
        X : Dask array of shape (N, D), data frame, or BlockedData
        layer : int or None
            0 is the first hidden layer, -1 the last one. None: the parameter `transform_layer`.

        Returns
        -------
        dask.array.Array, or ndarray for BlockedData
        """
        return self._lazily("transform", X, layer=layer)

    def _lazily(self: Any, method: str, X: Any, **arguments: Any) -> Any:
        """Return the results of a method of the local estimator for all blocks; those of BlockedData at once."""
        check_is_fitted(self, "network_")
        if isinstance(X, BlockedData):
            return np.concatenate(self._in_workers(_RowsMethod(method, arguments), X.without_labels()))
        local = self.to_local()
        if not is_collection(X):
            found = f"X is {describe(X)}, expected a Dask array or data frame, or BlockedData"
            raise SettingsError(f"{found}: to_local() takes other data")
        blocks = row_blocks(X, "X")
        rows = _RowsMethod(method, arguments)
        example = rows(np.zeros((0, self.n_features_in_), self._dtype), local)
        model = dask.delayed(local, pure=False)
        if hasattr(X, "chunks"):
            shape = {"drop_axis": 1} if example.ndim == 1 else {"chunks": (X.chunks[0], example.shape[1:])}
            return X.map_blocks(rows, local=model, name=f"{method}-{uuid.uuid4().hex}", meta=example, **shape)
        call = dask.delayed(rows, pure=False)
        parts = [da.from_delayed(call(block, model), (np.nan, *example.shape[1:]), meta=example) for block in blocks]
        return da.concatenate(parts, allow_unknown_chunksizes=True)

    def _in_workers(self: Any, function: Callable[..., Any], data: BlockedData) -> list[Any]:
        """Return the results of a function of consecutive blocks and the local estimator, called in the workers."""
        local = self.to_local()
        first_rows(local, data, reset=False)
        local.backend = backend_for(self.network_, data, self.backend)  # by all rows, as for data in one process
        views = consecutive_blocks(data, self.replicas)
        with engine_for(self.client) as engine:
            return engine.call(partial(function, local=local), views, [view.name for view in views])

    def _labels_and_predictions(self: Any, data: BlockedData) -> tuple[list[np.ndarray], np.ndarray]:
        """Return what that of the local estimator returns, computed by the workers."""
        check_is_fitted(self, "network_")
        parts = self._in_workers(_labels_and_predictions, data)
        return [each for labels, _ in parts for each in labels], np.concatenate([each for _, each in parts])

    def _scores(self: Any, X: Any, y: Any, sample_weight: Any) -> list[Any]:
        """Return what `_score_part` returns for each block."""
        check_is_fitted(self, "network_")
        if y is None:
            raise SettingsError(_NO_TARGETS)
        values = [value for value in (X, y, sample_weight) if value is not None]
        names = ("X", "y", "sample_weight")
        columns = [row_blocks(value, name) for value, name in zip(values, names, strict=False)]
        if len({len(column) for column in columns}) > 1:
            found = " and ".join(f"{len(column)} of {name}" for column, name in zip(columns, names, strict=False))
            raise DataError(f"found {found} blocks, expected the same rows in each: y.rechunk({{0: X.chunks[0]}})")
        model = dask.delayed(self.to_local(), pure=False)
        call = dask.delayed(_score_part, pure=False)
        parts = [call(model, *blocks) for blocks in zip(*columns, strict=True)]
        with engine_for(self.client) as engine:
            return [part for part in engine.gather(parts) if part is not None]

    @property
    def partial_fit(self) -> Any:
        """Not there: an epoch of single rows is no work for a cluster."""
        raise AttributeError(f"{type(self).__name__} has no partial_fit, expected to_local().partial_fit")


class _EachEpoch:
    """Shows a watch all epochs of a round at its end, because it counts epochs, not rounds."""

    def __init__(self, watch: FitWatch) -> None:
        self._watch, self.expected_epochs = watch, watch.expected_epochs
        self.state_dict, self.load_state_dict = watch.state_dict, watch.load_state_dict

    def __call__(self, end: EpochEnd) -> bool:
        """Return whether to stop after the round."""
        stop = False
        for record in end.history[len(self._watch.losses) :]:
            stop = self._watch(replace(end, record=record)) or stop
        return stop


@dataclass(frozen=True)
class _RowsMethod:
    """A method of an estimator, as a function of rows, of which there may be none."""

    name: str
    arguments: dict[str, Any]

    def __call__(self, rows: Any, local: Any) -> np.ndarray:
        """Return the results of the method of `local`."""
        method = getattr(local, self.name)
        if isinstance(rows, BlockedData) or rows.shape[0]:
            return method(rows, **self.arguments)
        row: Any = np.zeros((1, local.n_features_in_), local.network_.dtype)
        if hasattr(local, "feature_names_in_"):
            import pandas

            row = pandas.DataFrame(row, columns=local.feature_names_in_)
        return method(row, **self.arguments)[:0]


def _labels_and_predictions(data: BlockedData, local: Any) -> tuple[list[np.ndarray], np.ndarray]:
    return labels_and_predictions(local, data)


def _moments_of_blocks(data: BlockedData) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return the moments of each block."""
    return [moments(block.images) for _, block in blocks_ahead(data)]


def _score_part(local: Any, X: Any, y: Any, sample_weight: Any = None) -> tuple[Any, ...] | None:
    """Return the sums of a block that a score is made of; None for a block without rows.

    The total weight, and

    - of a classifier: the weight of the rows that are predicted correctly
    - of a regressor: of each target the mean, the squared deviations from it, and the squared errors
    """
    if not len(y):
        return None
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    predicted, y = local.predict(X), np.asarray(y)
    if hasattr(local, "classes_"):
        correct = predicted == y.reshape(predicted.shape)
        correct = correct.all(axis=1) if correct.ndim == 2 else correct
        return weight.sum(), weight[correct].sum()
    y, predicted = (values.reshape(len(y), -1).astype(np.float64) for values in (y, predicted))
    total, columns = weight.sum(), weight[:, None]
    mean = (columns * y).sum(axis=0) / total if total else y[0]
    return total, mean, (columns * (y - mean) ** 2).sum(axis=0), (columns * (y - predicted) ** 2).sum(axis=0)


class DaskMLPClassifier(ClusterMixin, MLPClassifier):
    """Multilayer perceptron for classification on a Dask cluster: `MLPClassifier` for arrays and frames of Dask.

    Each replica trains a network on its own blocks, and after `local_epochs` epochs all go on from their mean, see
    `fastnn.dask.train`. With equal parameters and `random_state`, the result has the same bits for any number of
    workers. Predictions are lazy. `partial_fit`, the solver "lbfgs", and `early_stopping` without `validation_data` are
    not there. The attributes are those of `MLPClassifier`.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, ...
        As in `MLPClassifier`; `batch_size` is that of all replicas together, and `n_threads` that of each. By default,
        the threads of a worker are divided among the replicas that it trains at once.
    replicas : int, default=8
        The number of networks that train side by side; the result depends on it.
    local_epochs : int, default=1
        The number of epochs between two means.
    client : distributed.Client, "synchronous" or None, default=None
        The cluster; None for the current client of Dask, "synchronous" for this process alone. Pickles lack it, and
        clones keep it.

    Attributes
    ----------
    client_ : distributed.Client
        The client that `fit` uses.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastnn
    >>> from fastnn.dask import DaskMLPClassifier
    >>> data = fastnn.load_digits()
    >>> X, y = da.from_array(data.images, (500, -1)), da.from_array(data.labels, 500)
    >>> model = DaskMLPClassifier((32,), max_iter=200, tol=0.01, input_scale=1 / 16, random_state=0,
    ...                           replicas=2, client="synchronous")
    >>> model = model.fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    >>> model.predict(X)
    dask.array<predict, shape=(1797,), dtype=int64, chunksize=(500,), chunktype=numpy.ndarray>
    """

    _local = MLPClassifier
    __init__ = _with_own_parameters(MLPClassifier)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, (N, C): a lazy Dask array, or an ndarray as in `predict`."""
        return self._lazily("predict_proba", X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`, likewise lazy."""
        return self._lazily("predict_log_proba", X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict` for X, weighted by `sample_weight`; all are collections of Dask.

        BlockedData have the labels, so `y` is None; `sample_weight` is an array for them.
        """
        if isinstance(X, BlockedData):
            return super().score(X, y, sample_weight)
        parts = self._scores(X, y, sample_weight)
        return float(sum(correct for _, correct in parts) / sum(weight for weight, _ in parts))

    def _encoder(self, blocks: BlocksOfCollections, warm: bool) -> tuple[Encoder, np.ndarray]:
        """Set `classes_`; return how labels become targets, and no rows of these targets."""
        if blocks.label_shape:
            if self.threshold is not None:
                raise ValueError(NO_THRESHOLD)
            if warm and len(self.classes_) != blocks.label_shape[0]:
                raise DataError(f"y has {blocks.label_shape[0]} labels, expected {len(self.classes_)}")
            self.classes_ = np.arange(blocks.label_shape[0])
            encode: Encoder = Targets(self._dtype)
        else:
            classes = blocks.classes()
            if classes.dtype.kind == "f" and (np.floor(classes) != classes).any():
                raise DataError(
                    f"y has the number {classes[np.floor(classes) != classes][0]}, expected labels of classes"
                )
            if warm and not np.array_equal(classes, self.classes_):
                found = f"y has the classes {short(classes.tolist())}"
                raise DataError(f"{found}, expected {short(self.classes_.tolist())} as in the previous fit")
            self.classes_ = classes
            self._unknown()
            encode = ClassNumbers(classes, self._dtype if len(classes) <= 2 else None)
        return encode, encode(np.zeros((0, *blocks.label_shape), self.classes_.dtype))

    def _weight_of_classes(self, blocks: BlocksOfCollections, encode: Encoder) -> np.ndarray | None:
        """Return the weight of each class, or None."""
        if self.class_weight is None or not isinstance(encode, ClassNumbers):
            return self._class_weight(np.zeros((0, len(self.classes_)), self._dtype))
        counts = blocks.counts(self.classes_)
        if self.class_weight == "balanced":
            return counts.sum() / (len(counts) * np.maximum(1, counts))
        return self._class_weight(np.arange(len(counts)))


class DaskMLPRegressor(ClusterMixin, MLPRegressor):
    """Multilayer perceptron for regression on a Dask cluster: `MLPRegressor` for arrays and frames of Dask.

    It trains and predicts as `DaskMLPClassifier` does. The attributes are those of `MLPRegressor`.

    Parameters
    ----------
    loss, hidden_layer_sizes, activation, solver, ...
        As in `MLPRegressor`; `batch_size` is that of all replicas together.
    replicas, local_epochs, client
        As in `DaskMLPClassifier`.

    Attributes
    ----------
    client_ : distributed.Client
        The client that `fit` uses.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from fastnn.dask import DaskMLPRegressor
    >>> X = da.from_array(np.random.default_rng(0).uniform(-1, 1, (2000, 2)), (500, -1))
    >>> y = X[:, 0] + X[:, 1]
    >>> model = DaskMLPRegressor(hidden_layer_sizes=(20,), learning_rate_init=0.01, tol=1e-3, random_state=0,
    ...                          replicas=2, client="synchronous")
    >>> model = model.fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    _local = MLPRegressor
    __init__ = _with_own_parameters(MLPRegressor)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return R^2 of `predict` for X, weighted by `sample_weight`; all are collections of Dask.

        BlockedData have the labels, so `y` is None; `sample_weight` is an array for them.
        """
        if isinstance(X, BlockedData):
            return super().score(X, y, sample_weight)
        total, mean, squares, errors = 0.0, np.zeros(1), np.zeros(1), np.zeros(1)
        for weight, of_part, squares_of_part, errors_of_part in self._scores(X, y, sample_weight):
            change, before, total = of_part - mean, total, total + weight
            mean = mean + change * (weight / total)
            squares = squares + squares_of_part + change**2 * (before * weight / total)
            errors = errors + errors_of_part
        with np.errstate(divide="ignore", invalid="ignore"):  # constant targets: 1 if all are predicted, else 0
            scores = np.where(squares > 0, 1 - errors / squares, errors == 0)
        return float(scores.mean())

    def _encoder(self, blocks: BlocksOfCollections, warm: bool) -> tuple[Encoder, np.ndarray]:
        """Return how numbers become targets, and no rows of these targets."""
        encode = Targets(self._dtype)
        kind = blocks.with_rows[0].label_dtype
        if kind is not None and kind.kind not in "biuf":
            raise DataError(f"y has dtype {kind}, expected numbers")
        return encode, encode(np.zeros((0, *(blocks.label_shape or (1,)))))

    def _weight_of_classes(self, blocks: BlocksOfCollections, encode: Encoder) -> None:
        return None
