"""Saves the state of a training run to a file and loads it: a safetensors file with a closed schema.

A checkpoint is a `tensor_file`. The header's ``__metadata__`` contains exactly these strings:

- ``format``: "fastnn-checkpoint"
- ``format_version``: "2"; version "1", which can be loaded too, has no layers for images
- ``layers``, ``input_shape``, ``output``, ``input_scale``: the network, as `network_part` describes it
- ``trainer``: JSON: ``steps``, ``epochs``, ``slots`` (their number) and ``sums``, the fields of `TrainerState`
- ``run``: JSON: the other fields of `RunState` that are no arrays
- ``parts``: JSON: the further states of the run by name, each with its ``values``, nested plain ones in which
  ``{"__array__": k}`` stands for array k, and ``arrays``, the dtype and shape of each
- ``sha256``: the digest of the file, see `tensor_file`

The tensors, in this order: those of the network; ``slot.S.weight.K`` and ``slot.S.bias.K``, the optimizer's arrays, of
which the last ones are its own weights if the network is an average of them; then, if the network has statistics,
``moving.statistic.K``, those of the optimizer's weights; if the result of the run is another network, its weights,
biases and statistics, named ``kept.weight.K`` and so on;
``history``, F64, a row per epoch with the fields of `EpochRecord`; in the middle of an epoch whose order is not a
function of the seed, ``order``, I64; and ``part.NAME.K``, the arrays of further states.

`write_checkpoint` keeps the checkpoint before the last one in a second file, ``<stem>.previous.safetensors``.
"""

import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastnn.backends.base import EpochSums, TrainerState
from fastnn.checks import is_integer, is_number, short
from fastnn.errors import DataError, FileError
from fastnn.files.atomic import write_atomically
from fastnn.files.network_part import KEYS, STANDARDIZATION, arrays_of, code_of, metadata_of, parse_skeleton
from fastnn.files.tensor_file import (
    DTYPES,
    Header,
    TensorType,
    check_metadata,
    code_of_dtype,
    load_file,
    parse_json,
    read_arrays,
    read_header,
    serialized,
)
from fastnn.models.model import are_sizes
from fastnn.network import Network

# The name of the checkpoint in the folder of a run.
CHECKPOINT = "checkpoint.safetensors"
_VERSION = "2"
_KEYS = dict.fromkeys(("1", _VERSION), KEYS | {"format", "format_version", "trainer", "run", "parts", "sha256"})
# The number of columns of the history: the fields of `EpochRecord`.
N_METRICS = 7
STOPPED = ("running", "epochs", "early", "callback", "interrupted", "diverged", "failed")
_MOST_SLOTS = 8
_MOVING = "moving.statistic."
_ARRAY = "__array__"


@dataclass(frozen=True)
class RunState:
    """The state of a training run between two batches: all that it needs to continue with the same bits.

    Attributes
    ----------
    network : Network
        The network as it is.
    kept : Network
        The network of the result so far: that of the last whole epoch; with early stopping, of the best one.
    trainer : TrainerState
        The optimizer's state, and the part of the epoch that has run.
    history : ndarray of shape (E, 7), float64
        The fields of the `EpochRecord` of each whole epoch.
    best_epoch : int
        The epoch of `kept`; 0 before the first one.
    first : int
        The number of epochs before this run.
    seconds : float
        The training time of the running epoch so far.
    stopped : str
        Why the run ended, as in `TrainingResult.stopped`; "running" if it has not ended, "failed" after an exception.
    settings : dict
        The settings, as `TrainingConfig.to_dict` returns them.
    backend : str
        The backend that trained.
    data : dict of str to str
        The digests of the training data, the sample weights and the validation data; "none" for those without.
    versions : dict of str to str
        The versions that affect the bits: of fastnn, NumPy and Numba.
    order : ndarray of shape (n,), int64, or None
        The order of the running epoch, if the seed does not determine it.
    parts : dict of str to dict
        Further states, such as those of callbacks: nested plain values and arrays by name.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> with TemporaryDirectory() as folder:
    ...     _ = fastnn.train(fastnn.Network.for_data(data, (16,)), data, epochs=2, checkpoint=f"{folder}/run")
    ...     fastnn.load_checkpoint(f"{folder}/run")
    RunState(Network(64 -> 16 relu -> 10 softmax, float32, 1,210 parameters), 2 epochs and 0 batches, epochs)
    """

    network: Network
    kept: Network
    trainer: TrainerState
    history: np.ndarray
    best_epoch: int
    first: int
    seconds: float
    stopped: str
    settings: dict[str, Any]
    backend: str
    data: dict[str, str]
    versions: dict[str, str]
    order: np.ndarray | None = None
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        sums = self.trainer.sums
        return f"RunState({self.network}, {self.trainer.epochs} epochs and {sums.batches} batches, {self.stopped})"


_TRAINER = {"steps": int, "epochs": int, "slots": int, "sums": list}
# The fields of `RunState` in the metadata's ``run``.
_RUN: dict[str, type] = {
    "best_epoch": int,
    "first": int,
    "seconds": float,
    "stopped": str,
    "settings": dict,
    "backend": str,
    "data": dict,
    "versions": dict,
}


def previous_path(path: str | os.PathLike[str]) -> Path:
    """Return the file that keeps the checkpoint before the last one: beside the file itself, if `path` is a link."""
    file = Path(os.path.realpath(os.fsdecode(path)))
    return file.with_name(f"{file.stem}.previous{file.suffix}")


def write_checkpoint(path: str | os.PathLike[str], state: RunState) -> None:
    """Write a checkpoint, and keep the one before it under the name of `previous_path`.

    Raises DataError if the state cannot be saved, and FileError if the file cannot be written, or if what is read back
    is not what was written. The file that was there then stays.
    """
    content = _serialized(state)
    _read(io.BytesIO(content), len(content))  # a state that cannot be loaded must not replace one that can
    write_atomically(path, content, previous=previous_path(path))


def load_checkpoint(path: str | os.PathLike[str]) -> RunState:
    """Load the state of a run from a checkpoint. Files from untrusted sources are safe to load.

    If the file is damaged or missing, for example after a power failure, the checkpoint before it is loaded, with a
    RuntimeWarning.

    Parameters
    ----------
    path : str or path
        The file, or the folder of a run, which has one.

    Returns
    -------
    RunState

    Raises
    ------
    DataError
        If the file is no checkpoint, is damaged, or was written by a newer fastnn, and there is none before it.
    FileError
        If there is no such file, or it cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> with TemporaryDirectory() as folder:
    ...     file = f"{folder}/checkpoint.safetensors"
    ...     result = fastnn.train(fastnn.Network.for_data(data, (16,)), data, epochs=3, checkpoint=file)
    ...     state = fastnn.load_checkpoint(file)
    >>> state.stopped, state.trainer.epochs
    ('epochs', 3)
    """
    if isinstance(path, str | os.PathLike) and os.path.isdir(path):
        path = os.path.join(path, CHECKPOINT)
    try:
        return load_file(path, "checkpoint", _read)
    except (DataError, FileError) as error:
        try:
            state = load_file(previous_path(path), "checkpoint", _read)
        except (DataError, FileError, OSError, ValueError):  # ValueError: the path has a NUL or no name
            raise error from None
        warnings.warn(f"fastnn: {error}; using the checkpoint before it", RuntimeWarning, stacklevel=2)
        return state


def load_existing(path: str | os.PathLike[str]) -> RunState | None:
    """Load a checkpoint as `load_checkpoint` does; return None if there is neither it nor the one before it."""
    exists = os.path.lexists(path) or os.path.lexists(previous_path(path))
    return load_checkpoint(path) if exists else None


def _serialized(state: RunState) -> bytes:
    trainer = state.trainer
    arrays = arrays_of(state.network)
    for s, (weights, biases) in enumerate(trainer.slots):
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            arrays |= {f"slot.{s}.weight.{k}": weight, f"slot.{s}.bias.{k}": bias}
    arrays |= {f"{_MOVING}{k}": array for k, array in enumerate(trainer.statistics)}
    if not _same(state.kept, state.network):
        arrays |= {f"kept.{name}": array for name, array in _trained(arrays_of(state.kept)).items()}
    arrays["history"] = np.asarray(state.history, np.float64).reshape(-1, N_METRICS)
    if state.order is not None:
        arrays["order"] = np.asarray(state.order, np.int64)
    parts = {}
    for name, part in state.parts.items():
        found: list[np.ndarray] = []
        values = _without_arrays(part, found)
        parts[name] = {"values": values, "arrays": [[code_of_dtype(each.dtype), list(each.shape)] for each in found]}
        arrays |= {f"part.{name}.{k}": array for k, array in enumerate(found)}
    about = {"steps": trainer.steps, "epochs": trainer.epochs, "slots": len(trainer.slots), "sums": list(trainer.sums)}
    metadata = {
        "format": "fastnn-checkpoint",
        "format_version": _VERSION,
        **metadata_of(state.network),
        "trainer": _json(about, "trainer"),
        "run": _json({name: getattr(state, name) for name in _RUN}, "run"),
        "parts": _json(parts, "states of the callbacks"),
    }
    return serialized(metadata, arrays)


def _without_arrays(value: Any, found: list[np.ndarray]) -> Any:
    """Return nested dicts and lists with the number of an array in place of each, which is added to `found`."""
    if isinstance(value, np.ndarray):
        found.append(value)
        return {_ARRAY: len(found) - 1}
    if isinstance(value, dict):
        if _ARRAY in value:
            raise DataError(f"a state of the callbacks has the key {_ARRAY!r}, which stands for an array")
        return {key: _without_arrays(each, found) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(each, found) for each in value]
    return value


def _with_arrays(value: Any, arrays: Sequence[np.ndarray]) -> Any:
    """Return what `_without_arrays` was given."""
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            number = value[_ARRAY]
            if not is_integer(number) or not 0 <= number < len(arrays):
                raise DataError(f"its parts name array {short(number)}, expected 0 to {len(arrays) - 1}")
            return arrays[number]
        return {key: _with_arrays(each, arrays) for key, each in value.items()}
    return [_with_arrays(each, arrays) for each in value] if isinstance(value, list) else value


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"the {what} cannot be saved: {error}; expected finite plain values, and arrays") from None


def _same(one: Network, other: Network) -> bool:
    """Whether two networks of the same layers have the same bits."""
    if one is other:
        return True
    arrays = ((*each.weights, *each.biases, *each.statistics) for each in (one, other))
    return all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))


def _trained(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of a network that training changes."""
    return {name: array for name, array in arrays.items() if name not in STANDARDIZATION}


def _read(file: BinaryIO, size: int) -> RunState:
    header = read_header(file, size, "checkpoint")
    metadata = check_metadata(header.metadata, "checkpoint", _KEYS)
    skeleton = parse_skeleton(metadata)
    trainer, run, parts = (parse_json(metadata[name], name) for name in ("trainer", "run", "parts"))
    _check_object(trainer, _TRAINER, "trainer")
    _check_object(run, _RUN, "run")
    _check_values(trainer, run)
    own = skeleton.types(code_of(header.tensors), STANDARDIZATION[0] in header.tensors)
    types = own | _further_types(header, _trained(own), trainer, run, parts)
    arrays = read_arrays(file, size, header, types, "tensors")
    network, kept = skeleton.network({name: arrays[name] for name in own}), _part(arrays, "kept.")
    history = arrays["history"].copy()
    epochs = run["first"] + 1 + np.arange(len(history))
    if not (history[:, 0] == epochs).all() or run["best_epoch"] not in {0, *epochs}:
        raise DataError(f"its history or best_epoch {run['best_epoch']} does not have the epochs that it counts")
    state = TrainerState(
        tuple(_pair(_part(arrays, f"slot.{s}.")) for s in range(trainer["slots"])),
        trainer["steps"],
        trainer["epochs"],
        EpochSums(*trainer["sums"]),
        statistics=tuple(_part(arrays, _MOVING).values()),
    )
    return RunState(
        network=network,
        kept=network.like(*_pair(kept), _of_kind(kept, "statistic.")) if kept else network,
        trainer=state,
        history=history,
        order=arrays["order"].copy() if "order" in arrays else None,
        parts={
            name: _with_arrays(part["values"], [*_part(arrays, f"part.{name}.").values()])
            for name, part in parts.items()
        },
        **run,
    )


def _further_types(
    header: Header, own: Mapping[str, TensorType], trainer: dict[str, Any], run: dict[str, Any], parts: Any
) -> dict[str, TensorType]:
    """Return the types of the tensors after those of the network. `own` are those that training changes."""
    slot = {name: each for name, each in own.items() if not name.startswith("statistic.")}
    types = {f"slot.{s}.{name}": each for s in range(trainer["slots"]) for name, each in slot.items()}
    if f"{_MOVING}0" in header.tensors:
        types |= {f"moving.{name}": each for name, each in own.items() if name.startswith("statistic.")}
    if "kept.weight.0" in header.tensors:
        types |= {f"kept.{name}": each for name, each in own.items()}
    types["history"] = TensorType("F64", (trainer["epochs"] - run["first"], N_METRICS))
    if "order" in header.tensors:
        entry = header.tensors["order"]
        shape: Any = entry.get("shape") if isinstance(entry, dict) else None
        if not are_sizes(shape, 1):
            raise DataError(f"order is {short(entry)}, expected a tensor of shape [n]")
        types["order"] = TensorType("I64", tuple(shape))
    if not isinstance(parts, dict):
        raise DataError(f"its parts are {short(parts)}, expected an object")
    for part_name, part in parts.items():
        _check_object(part, {"values": dict, "arrays": list}, "parts")
        for k, described in enumerate(part["arrays"]):
            code, shape = described if isinstance(described, list) and len(described) == 2 else ("", None)
            if code not in DTYPES or not (isinstance(shape, list) and all(is_integer(n) and n >= 0 for n in shape)):
                raise DataError(f"array {k} of its parts is {short(described)}, expected dtype and shape")
            types[f"part.{part_name}.{k}"] = TensorType(code, tuple(shape))
    return types


def _check_object(value: Any, fields: Mapping[str, type], what: str) -> None:
    """Raise DataError unless `value` is a JSON object with exactly these fields, of these types."""
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise DataError(f"its {what} is {short(value)}, expected an object with {', '.join(fields)}")
    for name, kind in fields.items():
        if not isinstance(value[name], kind) or isinstance(value[name], bool):
            raise DataError(f"{name} of its {what} is {short(value[name])}, expected {kind.__name__}")


def _check_values(trainer: dict[str, Any], run: dict[str, Any]) -> None:
    """Raise DataError if a number is out of range or a name is unknown."""
    sums = trainer["sums"]
    if len(sums) != len(EpochSums._fields) or not all(
        (is_number(each) and each >= 0) or k == 1 for k, each in enumerate(sums)
    ):
        raise DataError(f"sums of its trainer is {short(sums)}, expected {', '.join(EpochSums._fields)}")
    if not (0 <= trainer["slots"] <= _MOST_SLOTS and 0 <= run["first"] <= trainer["epochs"] and trainer["steps"] >= 0):
        raise DataError(f"its trainer is {short(trainer)}, first is {run['first']}: expected numbers in range")
    if run["stopped"] not in STOPPED:
        raise DataError(f"stopped is {short(run['stopped'])}, expected one of {', '.join(STOPPED)}")
    for name in ("data", "versions"):
        if not all(isinstance(each, str) for each in run[name].values()):
            raise DataError(f"{name} is {short(run[name])}, expected strings")


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return copies of the arrays whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): array.copy() for name, array in arrays.items() if name.startswith(prefix)}


def _of_kind(arrays: Mapping[str, np.ndarray], kind: str) -> list[np.ndarray]:
    return [array for name, array in arrays.items() if name.startswith(kind)]


def _pair(arrays: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return _of_kind(arrays, "weight."), _of_kind(arrays, "bias.")
