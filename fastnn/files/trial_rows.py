"""The rows on which an exported network is compared with the reference, and how close it has to come."""

from typing import Any

import numpy as np

from fastnn.backends import reference
from fastnn.backends.arguments import check_inputs
from fastnn.checks import check_choice
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.models import Model
from fastnn.network import Network

TOLERANCE, ROUNDINGS = 1e-5, 10
SEEDED_ROWS = 256


def input_dtype_named(given: Any, choices: tuple[str, ...]) -> np.dtype:
    """Return the dtype of an export's inputs; SettingsError unless it is one of `choices`."""
    # A dtype equals its own name and its class.
    name = next((name for name in choices if np.dtype(name) == given), given)
    return np.dtype(check_choice("input_dtype", name, choices))


def trial_rows(model: Model, rows: Any, dtype: np.dtype) -> Any:
    """Return the given rows, an array or a CSR matrix (N, D); `seeded_rows` of `dtype` if they are None.

    Raises DataError if there are none, or they do not fit the network.
    """
    rows = seeded_rows(model, dtype) if rows is None else rows
    rows = check_inputs(model.networks[0].core, rows.tocsr() if is_sparse(rows) else rows)
    if not rows.shape[0]:
        raise DataError("rows has no samples, expected at least one to compare on")
    return rows


def seeded_rows(model: Model, dtype: np.dtype) -> np.ndarray:
    """Return random rows of `dtype` in the range of the network's inputs, the same ones in every call."""
    network = model.networks[0]
    rng, shape = np.random.default_rng(0), (SEEDED_ROWS, network.n_inputs)
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, np.uint8)
    if network.standardization is not None:
        inputs = network.standardization
        return (rng.standard_normal(shape) / inputs.scale + inputs.mean).astype(dtype)
    if network.input_scale == 1:
        return rng.standard_normal(shape).astype(dtype)
    return (rng.random(shape) / network.input_scale).astype(dtype)


def as_input(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return rows as the export takes them, in `dtype`; DataError if they do not fit it."""
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise DataError("rows contain NaN or infinity, expected finite numbers")
    if dtype == np.uint8 and rows.dtype != np.uint8 and not (rows == np.clip(np.rint(rows), 0, 255)).all():
        raise DataError("rows do not fit input_dtype uint8, expected whole numbers from 0 to 255")
    return np.ascontiguousarray(rows, dtype)


def tolerance(network: Network, rows: np.ndarray, other_dtype: type | np.dtype = np.float64) -> float:
    """Return the largest accepted difference from the reference's outputs for `rows`.

    Two sums of the same terms in different orders differ by about as much as either differs from the exact sum. With
    unscaled inputs the terms are large, and this difference can exceed 1e-5. The rounding error of the reference,
    compared with the same network in `other_dtype`, is an estimate of the difference. On few rows it may be small by
    chance, so rows with small random changes are added.
    """
    if len(rows) < SEEDED_ROWS:
        copies = rows[np.arange(SEEDED_ROWS) % len(rows)]
        rows = np.concatenate([rows, copies * np.random.default_rng(0).uniform(1 - 1e-5, 1 + 1e-5, copies.shape)])
    other = network.like(*([array.astype(other_dtype) for array in kind] for kind in (network.weights, network.biases)))
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = reference.predict_proba(network, rows)
    if not np.isfinite(outputs).all():
        raise DataError(f"predictions for such rows are too large for {network.dtype}, expected finite numbers")
    rounding = np.abs(outputs - reference.predict_proba(other, rows)).max()
    return float(max(TOLERANCE * max(1.0, np.abs(outputs).max()), ROUNDINGS * rounding))
