"""The checks of what callers give to backends, which return it in the forms that backends use."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.checks import is_count, short
from fastnn.datasets.arrays import as_array
from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.interruptible import interruptible
from fastnn.memory import check_training_memory
from fastnn.network import Network
from fastnn.network.layers.windows import Pair, as_pair, window_grid
from fastnn.optim.augmentation import Distortion
from fastnn.optim.config import LossConfig, TrainingConfig
from fastnn.optim.optimizers import Optimizer

# The dtypes, in native byte order, that the backends use without conversion.
_WORKING_DTYPES = frozenset(map(np.dtype, (np.uint8, np.float32, np.float64)))
_LARGEST = {np.dtype(each): float(np.finfo(each).max) for each in (np.float32, np.float64)}
# The number of values to check at a time, which stay in the cache between two passes over them, and are too few for
# OpenBLAS to share a product among threads.
_FEW_VALUES = 8192
# Sums of squares below this belong to numbers that are finite in every dtype.
_SMALL = 1e38


class TrainingData(NamedTuple):
    """Data that `check_data` has checked."""

    inputs: Any  # an array or a SciPy CSR matrix, (N, D), as `check_inputs` returns them
    targets: np.ndarray  # labels, (N,) int64, or numbers, (N, C), in the network's dtype; a copy of the caller's
    sample_weight: np.ndarray | None  # (N,), in the network's dtype; a copy of the caller's
    numbers: np.ndarray | None = None  # (N,) int64, those of the samples in all data, for dropout; None: 0 to N - 1

    @property
    def weight(self) -> float:
        """The sum of the sample weights; without weights, the number of samples."""
        if self.sample_weight is None:
            return float(self.inputs.shape[0])
        return float(self.sample_weight.sum(dtype=np.float64))

    def take(self, rows: np.ndarray) -> "TrainingData":
        """Return the data of these rows."""
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        numbers = None if self.numbers is None else self.numbers[rows]
        inputs = interruptible(self.inputs.__getitem__, rows, work=len(rows) * self.inputs.shape[1])
        return TrainingData(inputs, self.targets[rows], weight, numbers)


def check_data(
    network: Network, inp: Any, targets: Any, sample_weight: Any = None, config: LossConfig | None = None
) -> TrainingData:
    """Return the data of a training run in the forms that backends use.

    Raises DataError unless `check_inputs`, `check_targets` and `check_sample_weight` accept them, and SettingsError
    unless the settings fit the network and `Network.check_arrays` accepts it.
    """
    network.check_arrays()
    inputs = check_inputs(network, inp, any_order=True)
    n_samples = inputs.shape[0]
    if config is not None:
        check_config(network, config, n_samples)
    targets = check_targets(network, targets, n_samples)
    return TrainingData(inputs, targets, check_sample_weight(sample_weight, n_samples, network.dtype))


def check_run(
    network: Network, inp: Any, targets: Any, sample_weight: Any, settings: dict[str, Any]
) -> tuple[TrainingData, TrainingConfig]:
    """Return the checked data and settings of `Backend.trainer`."""
    config = TrainingConfig.from_settings({"batch_size": None, **settings})
    if not isinstance(config.update_rule, Optimizer):
        raise SettingsError(f"optimizer is {config.update_rule}, expected one that updates by batches, such as SGD()")
    return check_data(network, inp, targets, sample_weight, config), config


def check_config(network: Network, config: LossConfig, n_samples: int) -> None:
    """Raise SettingsError unless the settings fit the network and the number of samples, and the run the memory."""
    if config.label_smoothing and not network.loss.uses_labels:
        raise SettingsError(
            f"label_smoothing is {config.label_smoothing}, expected 0 for {network}: only softmax outputs have labels"
        )
    config.dropout_rates(len(network.dropped_sizes))
    if isinstance(config, TrainingConfig):
        for layer in network.layers:
            layer.check_batch(min(config.batch_size or n_samples, n_samples) // (config.slices or 1), config.slices)
        rule, itemsize = config.update_rule, network.dtype.itemsize
        check_training_memory(
            network.n_parameters,
            itemsize,
            rule.state_bytes(itemsize),
            lambda: f"the arrays to train {network} with {rule}",
        )


def check_inputs(network: Network, inp: Any, *, any_order: bool = False) -> Any:
    """Return `inp` in a form that the backends accept; standardised, if the network standardises its inputs.

    Arrays are C-contiguous unless `any_order` allows float32 and float64 in any memory order: they are then not copied.

    Raises DataError unless `inp` has shape (B, D), with the network's D, and real numbers. Arrays stay arrays. Sparse
    matrices become canonical CSR matrices of SciPy and are never made dense.
    """
    sparse = False
    if type(inp) is not np.ndarray:  # plain arrays skip this: predicting one row takes only microseconds
        sparse = is_sparse(inp)
        inp = inp if sparse else as_array(inp, "inputs")
    if inp.dtype.kind not in "buif":
        raise DataError(f"inputs have dtype {inp.dtype}, expected numbers")
    if inp.ndim != 2 or inp.shape[1] != network.n_inputs:
        raise DataError(f"inputs have shape {inp.shape}, expected (samples, {network.n_inputs}) for {network}")
    if not sparse:
        if network.standardization is not None:
            return network.standardization.apply(inp, network.dtype)
        return working_inputs(inp, any_order)
    if not network.layers[0].accepts_sparse:
        raise DataError(f"inputs are a sparse matrix, expected an array for the first layer of {network}")
    inp = interruptible(canonical, inp, work=4 * inp.nnz)
    if network.standardization is not None:
        return network.standardization.apply(inp, network.dtype)
    data = working_inputs(inp.data)
    return inp if data is inp.data else type(inp)((data, inp.indices, inp.indptr), shape=inp.shape)


def check_finite_inputs(network: Network, inp: Any) -> Any:
    """Return what `check_inputs` returns, arrays in any memory order; DataError, with the place, unless it is finite.

    It must be finite in the network's dtype: a finite float64 number can be infinite in float32. Training would
    diverge, and a prediction would be NaN.
    """
    inputs = check_inputs(network, inp, any_order=True)
    if not are_finite(inputs.data if is_sparse(inputs) else inputs, network.dtype):
        raise _not_finite(canonical(inp) if is_sparse(inp) else inp, inputs, network.dtype)
    return inputs


def are_finite(values: np.ndarray, dtype: np.dtype) -> bool:
    """Return whether all values are finite numbers of a floating-point dtype, to which a kernel will convert them."""
    if values.dtype.kind != "f" or not values.size:
        return True
    limit = _LARGEST[dtype] if values.dtype.itemsize > dtype.itemsize else None
    parts = _flat_parts(values) if values.flags.c_contiguous else _parts(values)
    if values.size <= _FEW_VALUES:
        return all(_is_finite(part, limit) for part in parts)
    with np.errstate(over="ignore", invalid="ignore"):
        return all(_is_small(part) or _is_finite(part, limit) for part in parts)


def _is_small(part: np.ndarray) -> bool:
    """Return whether the sum of the squares proves that every number is finite, in float32 too: one pass, not two."""
    return part.ndim == 1 and part.dtype.char in "fd" and bool(part.dot(part) < _SMALL)


def _is_finite(part: np.ndarray, limit: float | None) -> bool:
    if limit is None:
        return bool(np.isfinite(part).all())
    return bool(part.min() >= -limit and part.max() <= limit)  # both are NaN if a value is


def _flat_parts(values: np.ndarray) -> Iterator[np.ndarray]:
    flat = values.reshape(-1)
    for start in range(0, flat.size, _FEW_VALUES):
        yield flat[start : start + _FEW_VALUES]


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the values of an array that is not C-contiguous, in parts that are views."""
    if values.ndim == 2 and abs(values.strides[0]) < abs(values.strides[1]):
        values = values.T
    if values.flags.c_contiguous:
        yield from _flat_parts(values)
        return
    n_rows = max(1, _FEW_VALUES // max(1, values[:1].size))
    for start in range(0, len(values), n_rows):
        yield values[start : start + n_rows]


def _not_finite(raw: Any, inp: Any, dtype: np.dtype) -> DataError:
    """Return the error that names the first input that is not finite, or not after the conversion to `dtype`.

    raw: the inputs as they were given
    inp: the same after the conversion to a working dtype, and standardised
    """
    with np.errstate(over="ignore"):
        if is_sparse(inp):
            rows = inp.tocoo()
            at = int(np.isfinite(rows.data.astype(dtype)).argmin())
            row, column = int(rows.row[at]), int(rows.col[at])
        else:
            n_rows = max(1, _FEW_VALUES // max(1, inp.shape[1]))
            for start in range(0, len(inp), n_rows):
                finite = np.isfinite(inp[start : start + n_rows].astype(dtype))
                if not finite.all():
                    break
            row, column = divmod(int(finite.argmin()), inp.shape[1])
            row += start
    value = raw[row, column]
    where = f"{value:g} in row {row}, column {column} (from 0)"
    if np.isfinite(value):
        return DataError(
            f"inputs contain {where}, too large for {dtype}, expected at most {_LARGEST[dtype]:.3g}; scale it"
        )
    return DataError(f"inputs contain NaN or infinity, such as {where}, expected finite numbers")


def working_inputs(inp: np.ndarray, any_order: bool = False) -> np.ndarray:
    """Return `inp` itself if it is C-contiguous uint8, float32 or float64 in native byte order, else a copy that is.

    bool becomes uint8 and float16 becomes float32. Every other dtype becomes float64, which represents it best. With
    `any_order`, an aligned array of float32 or float64 need not be C-contiguous.
    """
    if inp.dtype in _WORKING_DTYPES and (
        inp.flags.c_contiguous or (any_order and inp.dtype != np.uint8 and inp.flags.aligned)
    ):
        return inp
    dtypes = {"bool": np.uint8, "float16": np.float32, "uint8": np.uint8, "float32": np.float32}
    dtype = dtypes.get(inp.dtype.newbyteorder("=").name, np.float64)
    return interruptible(np.ascontiguousarray, inp, dtype, work=2 * inp.size)


def check_targets(network: Network, targets: np.ndarray, n_samples: int) -> np.ndarray:
    """Return a copy of `targets` in the form that the network's loss uses.

    Softmax outputs use labels, which `check_labels` checks. Other outputs use numbers of shape (n_samples, C) in the
    network's dtype. Raises DataError unless they are finite, and from 0 to 1 for logistic outputs.
    """
    loss = network.loss
    if loss.uses_labels:
        return check_labels(targets, n_samples, network.n_classes)
    targets = as_array(targets, "targets")
    if targets.shape == (n_samples,) and network.n_outputs == 1:
        targets = targets[:, None]
    if targets.shape != (n_samples, network.n_outputs) or targets.dtype.kind not in "buif":
        raise DataError(
            f"targets have shape {targets.shape}, dtype {targets.dtype}, expected numbers ({n_samples}, "
            f"{network.n_outputs}) for {network}"
        )
    with np.errstate(over="ignore"):  # the check below finds overflow
        targets = np.array(targets, network.dtype, order="C")
    if not are_finite(targets, network.dtype):
        raise DataError(f"targets contain NaN, infinity or a value too large for {network.dtype}")
    low, high = loss.target_range
    if targets.size and not (targets.min() >= low and targets.max() <= high):
        raise DataError(
            f"targets run from {targets.min():g} to {targets.max():g}, expected {low} to {high} for {network}"
        )
    return targets


def check_labels(labels: np.ndarray, n_samples: int, n_classes: int) -> np.ndarray:
    """Return a copy of `labels` as int64, shape (n_samples,).

    Raises DataError unless they are integers from 0 to n_classes - 1. The copy is what is checked: a kernel writes
    where a label says, and the caller's array may change at any time.
    """
    labels = as_array(labels, "labels")
    if labels.shape != (n_samples,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels have shape {labels.shape}, dtype {labels.dtype}, expected ({n_samples},) whole numbers"
        )
    own = np.array(labels, np.int64)  # a number beyond int64 becomes negative
    if len(own) and not (own.min() >= 0 and own.max() < n_classes):
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1} for {n_classes} classes"
        )
    return own


def check_order(
    order: Any, batch_size: int, batches: range | None, first: int, n_samples: int, n_rows: int | None = None
) -> tuple[range, np.ndarray]:
    """Return the numbers of the batches that `Trainer.run_epoch` must run, and a copy of their rows as int64.

    batches, n_rows: as given to `run_epoch`
    first: the number of the first batch that has not run yet
    n_samples: the number of rows of the data

    Raises ValueError unless `order` has one dimension and whole numbers, one or more, `batch_size` is 1 or more,
    `batches` begin with `first`, and `order` has their rows. Raises IndexError if a row is outside the data.
    """
    given = np.asarray(order)
    if given.ndim != 1 or not len(given) or batch_size < 1:
        raise ValueError(f"order of shape {given.shape}, batch_size {batch_size}: expected (n,) and 1 or more of each")
    if given.dtype.kind not in "iu":
        raise ValueError(f"order of dtype {given.dtype}, expected whole numbers")
    n_batches = -(-(len(given) if n_rows is None else n_rows) // batch_size)
    batches = range(first, n_batches) if batches is None else batches
    if batches.start != first or batches.step != 1 or not first < batches.stop <= n_batches:
        raise ValueError(f"batches are {batches}, expected a range from {first} to {n_batches} at most")
    if n_rows is not None:
        expected = min(n_rows, batches.stop * batch_size) - batches.start * batch_size
        if len(given) != expected:
            raise ValueError(f"order has {len(given)} rows, expected the {expected} of {batches}")
    else:
        given = given[batches.start * batch_size : batches.stop * batch_size]
    # The copy is what is checked: a kernel trusts the row numbers, and the caller's array may change at any time.
    rows = np.array(given, np.int64)
    if not (rows.min() >= 0 and rows.max() < n_samples):
        raise IndexError(f"order has rows outside 0 to {n_samples - 1}")
    return batches, rows


def write_parameters(parameters: np.ndarray, at: np.ndarray) -> bool:
    """Write a vector of float64 into the parameters, (P,); return False if a value is too large for their dtype."""
    try:
        with np.errstate(over="raise"):
            parameters[:] = at
    except FloatingPointError:
        return False
    return True


def check_logits(logits: np.ndarray) -> None:
    """Raise DataError unless `logits` is a (B, C) array of numbers with one column or more."""
    check_shapes(logits=(logits, (None, None)))
    if not logits.shape[1] or logits.dtype.kind == "b":
        raise DataError(f"logits are {logits.dtype} of shape {logits.shape}, expected numbers in one column or more")


def check_logits_of_loss(logits: np.ndarray) -> None:
    """Raise DataError unless `logits` is a (B, C) array of float32 or float64, and neither B nor C is 0."""
    check_logits(logits)
    if not len(logits) or logits.dtype not in (np.float32, np.float64):
        raise DataError(f"logits are {logits.dtype} of shape {logits.shape}, expected float32 or float64, and rows")


def check_sample_weight(sample_weight: Any, n_samples: int, dtype: np.dtype) -> np.ndarray | None:
    """Return a copy of `sample_weight` as `dtype`, shape (n_samples,), or None.

    Raises DataError unless every weight is finite and 0 or more, and at least one is above 0.
    """
    if sample_weight is None:
        return None
    given = as_array(sample_weight, "sample_weight")
    if given.shape != (n_samples,) or given.dtype.kind not in "buif":
        raise DataError(f"sample_weight has shape {given.shape}, dtype {given.dtype}, expected ({n_samples},) numbers")
    with np.errstate(over="ignore"):  # the check below finds overflow
        weight = np.array(given, dtype, order="C")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise DataError(f"sample_weight has an entry that is negative or not finite as {dtype}, expected 0 or more")
    if not weight.any():
        raise DataError("sample_weight is 0 for every sample, expected at least one above 0")
    return weight


def check_shapes(**arrays: tuple[np.ndarray, Sequence[int | None]]) -> None:
    """Raise DataError unless each is an array of numbers with its expected shape; None matches any size."""
    for name, (array, shape) in arrays.items():
        if type(array) is not np.ndarray or array.dtype.kind not in "buif":  # the plain case costs the least
            check_numbers(**{name: array})
        found = array.shape
        fits = len(found) == len(shape)
        for have, want in zip(found, shape, strict=False):
            fits = fits and (want is None or want == have)
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataError(f"{name} has shape {found}, expected ({wanted})")


def check_windows(inp: np.ndarray, window: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return the number of windows on images, (B, C, H, W), downwards and across.

    Raises DataError unless `inp` are such images, and SettingsError unless at least one window fits and every window
    covers a part of the image.
    """
    check_shapes(inp=(inp, (None, None, None, None)))
    return _window_grid(inp.shape, window, stride, padding)


def check_pool_gradient(
    shape: Sequence[int], size: Pair, stride: Pair, padding: Pair, dout: np.ndarray, taps: np.ndarray | None = None
) -> None:
    """Raise DataError or SettingsError unless there is a number for each window on images of this shape.

    dout: the gradient of a pool, of floating-point numbers
    taps: the taps of the largest numbers, whole numbers; None: those of a mean, which has none
    """
    grid = _window_grid(shape, size, stride, padding)
    places = (*shape[:2], *grid)
    check_shapes(dout=(dout, places), **({} if taps is None else {"taps": (taps, places)}))
    _check_floating(dout=dout)
    if taps is not None and taps.dtype.kind not in "iu":
        raise DataError(f"taps have dtype {taps.dtype}, expected whole numbers")


def _check_floating(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise DataError(f"{name} has dtype {array.dtype}, expected float32 or float64")


def _window_grid(shape: Sequence[int], window: Pair, stride: Pair, padding: Pair) -> Pair:
    if len(shape) != 4 or not (is_count(shape[2]) and is_count(shape[3])):
        raise DataError(f"images have shape {tuple(shape)}, expected (samples, channels, height, width)")
    for name, pair, low in (("window", window, 1), ("stride", stride, 1), ("padding", padding, 0)):
        if as_pair(name, pair, low) != pair:
            raise SettingsError(f"{name} is {short(pair)}, expected a tuple of height and width")
    if padding[0] >= window[0] or padding[1] >= window[1]:
        raise SettingsError(f"padding is {padding}, expected less than {window}: a window would cover padding only")
    return window_grid("a window of", tuple(shape[1:]), window, stride, padding)


def check_image_shapes(inp: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, **arrays: np.ndarray) -> None:
    """Raise DataError or SettingsError unless the arrays of a convolution fit together.

    arrays: the `bias` or the `dsums` of the convolution; like `weight`, of floating-point numbers
    """
    check_shapes(weight=(weight, (None, None, None, None)))
    check_shapes(inp=(inp, (None, len(weight), None, None)))
    grid = check_windows(inp, weight.shape[1:3], stride, padding)
    n_channels = weight.shape[3]
    shapes = {"bias": (n_channels,), "dsums": (len(inp), n_channels, *grid)}
    check_shapes(**{name: (array, shapes[name]) for name, array in arrays.items()})
    _check_floating(weight=weight, **arrays)


def check_distortion(images: np.ndarray, rows: Any, distortion: Distortion) -> np.ndarray:
    """Return a copy of the row numbers of images to distort, (B,) int64.

    Raises DataError unless `images` are rows of images of the distortion's shape, in a dtype that backends use, and
    each of B rows is one of them and has a distortion.
    """
    check_shapes(images=(images, (None, None)))
    if images.dtype not in _WORKING_DTYPES:
        raise DataError(f"images have dtype {images.dtype}, expected uint8, float32 or float64")
    height, width = distortion.shape
    if height < 1 or width < 1 or height * width != images.shape[1]:
        found = f"images have {images.shape[1]} pixels each"
        raise DataError(f"{found}, expected {height * width} for the image shape {tuple(distortion.shape)}")
    given = np.asarray(rows)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise DataError(f"rows are {given.dtype} of shape {given.shape}, expected (B,) whole numbers")
    own = np.array(given, np.int64)  # the copy is what is checked: a kernel trusts the row numbers
    if len(own) and not (own.min() >= 0 and own.max() < len(images)):
        raise DataError(f"rows run from {own.min()} to {own.max()}, expected 0 to {len(images) - 1}")
    shapes = {"affine": (len(own), 6), "numbers": (len(own),), "boxes": (len(own), 4), "taps": (2, None)}
    check_shapes(**{name: (getattr(distortion, name), shape) for name, shape in shapes.items()})
    return own


def check_numbers(**arrays: Any) -> None:
    """Raise DataError unless each is an array, or a sparse matrix, of real numbers.

    A `numpy.matrix` multiplies where arrays work element by element, and the mask of a masked array would be lost: both
    are refused.
    """
    for name, array in arrays.items():
        if not hasattr(array, "dtype") or isinstance(array, (np.matrix, np.ma.MaskedArray, np.generic)):
            raise DataError(f"{name} is a {type(array).__name__}, expected an array")
        if array.dtype.kind not in "buif":
            raise DataError(f"{name} has dtype {array.dtype}, expected numbers")
