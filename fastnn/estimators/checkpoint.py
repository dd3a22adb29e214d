"""How `fit` goes on from a checkpoint of an earlier fit with the same parameters and data."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fastnn.backends.choice import continued_backend
from fastnn.errors import DataError, DivergenceError, SettingsError
from fastnn.files.checkpoint_file import RunState, load_existing
from fastnn.network import Network
from fastnn.optim.config import TrainingConfig
from fastnn.training.checkpoint import (
    FORCE_HINT,
    Checkpoint,
    check_same,
    continued,
    end_of,
    restore,
    result_of,
)
from fastnn.training.result import TrainingResult

# scikit-learn's message for weights that are not finite, which tells users what to do.
NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


def saved_fit(checkpoint: Any, warm: bool) -> RunState | None:
    """Return the state in the file of a `Checkpoint` or path; None if it does not exist yet."""
    if checkpoint is None:
        return None
    if warm:
        raise ValueError("checkpoint is given with warm_start=True, expected one of them")
    path = checkpoint.path if isinstance(checkpoint, Checkpoint) else checkpoint
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"checkpoint is a {type(path).__name__}, expected a path or a Checkpoint")
    return load_existing(path)


def in_words_of_fit(error: BaseException) -> None:
    """Word an error for `fit`: a checkpoint cannot be forced, and divergence has the words of scikit-learn, too."""
    if isinstance(error, DivergenceError) and NON_FINITE not in str(error):
        error.args = (f"{error}. {NON_FINITE}",)
    if isinstance(error, (SettingsError, DataError)) and FORCE_HINT in str(error):
        error.args = (str(error).replace(FORCE_HINT, "expected the arguments of that fit, or another file"),)


def result_of_ended(
    state: RunState,
    network: Network,
    digests: Callable[[], dict[str, str]],
    parts: Sequence[Any],
    config: TrainingConfig,
) -> TrainingResult | None:
    """Return the result of a fit that has ended, and give its parts their states; None if the fit has to go on.

    Raises SettingsError or DataError unless the fit had these arguments.

    digests: returns those of the data, as `data_digests` does
    parts: the callbacks, and the order of the rows
    """
    config = continued(state, config, {})
    ended = state.stopped if state.stopped == "callback" else end_of(state, config)
    if ended is None:
        return None
    backend = continued_backend(config.backend, state.backend)
    check_same(state, network, config, backend, digests(), force=False)
    restore(parts, state)
    result = result_of(state, ended, config)
    return replace(result, state=state.trainer if result.best_epoch == state.trainer.epochs else None)
