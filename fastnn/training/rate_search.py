"""`find_learning_rate`: a range test, in which the rate rises from step to step, and short runs with a few rates."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.backends import reference
from fastnn.backends.arguments import TrainingData, check_config, check_sample_weight
from fastnn.backends.base import Trainer
from fastnn.backends.choice import CHOOSER, fit_work
from fastnn.backends.threads import resolve_threads
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError, SettingsError
from fastnn.evaluation.evaluate import check_fit
from fastnn.models import as_dataset, as_network
from fastnn.network import Network
from fastnn.optim.config import AUTO, TrainingConfig
from fastnn.optim.optimizers import LBFGS
from fastnn.randomness import generator
from fastnn.training.epochs import Job, freeze
from fastnn.training.frozen import trained_part

# The first and the last rate of the range test, and its number of steps for a factor of 10.
LOWEST, HIGHEST, STEPS_PER_DECADE = 1e-8, 100.0, 15
# The range test ends at a loss of more than this times the first one.
EXPLODED = 3.0
# The rates of the short runs: the last rate of the range test divided by 3, 9, ..., 729, and further if the lowest rate
# is the best so far; no more than MAX_TRIALS.
TRIAL_FACTOR, MIN_TRIALS, MAX_TRIALS = 3.0, 6, 15
# A short run takes about this many samples, in a number of steps between these two.
TRIAL_SAMPLES, MIN_TRIAL_STEPS, MAX_TRIAL_STEPS = 20_000, 30, 400
# The lowest rate wins whose loss has fallen as far as the lowest loss, but for this fraction of the fall: a lower rate
# is safer in a long run, and a rate is not better because it memorises a small data set sooner.
ALIKE = 0.03
# Larger batches are as exact, and slower: the search uses batches of at most this size.
MAX_BATCH = 2000
# The number of training samples whose loss is computed after each step. They are always the same, so that two losses
# differ by the steps between them and not by the batches.
MAX_PROBED = 1000


@dataclass(frozen=True, eq=False)
class RateSearch:
    """The result of `find_learning_rate`.

    `fastnn.plots.RateSearchDisplay.from_search` draws it.

    Attributes
    ----------
    suggestion : float
        The learning rate to train with.
    rates, losses : ndarray of shape (S,)
        The range test: the rate of each step, and the loss after it; NaN if that is not finite.
    trial_rates, trial_losses : ndarray of shape (T,)
        The short runs: their rates, and the loss after each; NaN if a run diverged.
    first_loss : float
        The loss before training.
    optimizer : str
        The repr of the optimizer.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> search = fastnn.find_learning_rate(fastnn.Network.for_data(data, (16,)), data, backend="numpy")
    >>> bool(search.trial_losses.min() < search.first_loss / 2)
    True
    """

    suggestion: float
    rates: np.ndarray = field(repr=False)
    losses: np.ndarray = field(repr=False)
    trial_rates: np.ndarray = field(repr=False)
    trial_losses: np.ndarray = field(repr=False)
    first_loss: float
    optimizer: str


def search_from(fields: dict[str, Any] | None) -> RateSearch | None:
    """Return the search with these fields, which a checkpoint has; None without them, or if they are not its fields."""
    try:
        return None if fields is None else RateSearch(**fields)
    except TypeError:
        return None


def find_learning_rate(
    network: Network,
    data: Dataset,
    *,
    sample_weight: np.ndarray | None = None,
    config: TrainingConfig | None = None,
    **settings: Any,
) -> RateSearch:
    """Search for a learning rate by training copies of a network for a few hundred steps.

    Parameters
    ----------
    network : Network
        The network to start from; it does not change.
    data : Dataset, or (images, labels)
        The training data, as in `train`.
    sample_weight : ndarray of shape (N,), or None
        As in `train`.
    config : TrainingConfig or None
        The settings of the planned run; None: the defaults. The search uses those of the loss, `optimizer`,
        `batch_size` (at most 2,000), `seed`, `backend` and `threads`.
    **settings
        Single settings, which replace those of `config`.

    Returns
    -------
    RateSearch

    Raises
    ------
    SettingsError
        If a setting is out of range, or the optimizer is L-BFGS, which has no learning rate.
    DataError
        If the data do not fit the network, or no rate lowers the loss.

    Notes
    -----
    The search has two parts. All losses are those of the same 1,000 training samples, or of all if there are fewer.

    1. A range test [1]_ [2]_: the rate rises from 1e-8 to 100 by a constant factor per step, until the loss is three
       times the first one. No run can use a rate beyond that.
    2. Short runs from the initial network, with a third of that rate, a ninth, and so on, at least six of them. The
       suggestion is the lowest rate whose loss falls by at least 97 % of the largest fall. The curve of the range test
       alone misleads where a network begins on a plateau, and where momentum delays the explosion.

    References
    ----------
    .. [1] Smith 2017, "Cyclical learning rates for training neural networks", arXiv:1506.01186, section 3.3.
    .. [2] Smith 2018, "A disciplined approach to neural network hyper-parameters", arXiv:1803.09820.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (32,))
    >>> search = fastnn.find_learning_rate(network, data, optimizer="adam", backend="numpy")
    >>> 0.0005 < search.suggestion < 0.1
    True
    """
    config = (config or TrainingConfig()).replace(**settings)
    config = config.replace(threads=resolve_threads(config.threads))
    network, data = as_network(network), as_dataset(data)
    checked = TrainingData(*check_fit(network, data), check_sample_weight(sample_weight, len(data), network.dtype))
    check_config(*trained_part(network, config), len(data))
    work = fit_work(network, checked.inputs, len(data), config.replace(learning_rate=AUTO), epochs=0)
    engine = CHOOSER.choose(config.backend, work)
    return search_rate(freeze(Job(network, checked, np.arange(len(data)), config, engine, None)))


def search_rate(job: Job) -> RateSearch:
    """Return the result of `find_learning_rate` for a job whose data and settings are checked."""
    rule = job.config.update_rule
    if isinstance(rule, LBFGS):
        raise SettingsError("optimizer is L-BFGS, which has no learning rate to search for")
    n_rows = len(job.rows)
    batch_size = min(job.config.batch_size or n_rows, n_rows, MAX_BATCH)
    draw = generator(job.config.seed, "sample")
    probed = job.data.take(np.sort(draw.choice(job.rows, min(MAX_PROBED, n_rows), replace=False)))
    first = _loss(job, job.network, probed)
    if not np.isfinite(first):
        raise DataError(f"the loss of {job.network} is {first} before training, expected a number: scale the inputs")
    # A step with weight decay must not turn the sign of a weight.
    highest = min(HIGHEST, 1 / rule.weight_decay) if rule.weight_decay else HIGHEST
    n_steps = round(STEPS_PER_DECADE * np.log10(highest / LOWEST)) + 1
    rates, losses = [], []
    trainer, batches = _new_trainer(job, batch_size), _batches(job.rows, batch_size, draw)
    for rate in np.geomspace(LOWEST, highest, n_steps):
        rates.append(float(rate))
        losses.append(_step(job, trainer, next(batches), rates[-1], probed))
        if not losses[-1] <= EXPLODED * first:
            break
    trial_rates, trial_losses = _trials(job, batch_size, rates[-1], first, probed)
    if not (trial_losses < first).any():
        raise DataError(
            f"none of the learning rates {', '.join(f'{rate:.2g}' for rate in trial_rates)} lowers the loss of "
            f"{first:.4g}: check that the inputs are scaled to about 0 to 1 and tell something about the labels"
        )
    best = float(f"{trial_rates[_winner(trial_losses, first)]:.2g}")
    return RateSearch(best, np.array(rates), np.array(losses), trial_rates, trial_losses, first, repr(rule))


def _trials(
    job: Job, batch_size: int, last_rate: float, first_loss: float, probed: TrainingData
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rates of the short runs, in ascending order, and the loss after each."""
    rates: list[float] = []
    losses: list[float] = []
    while len(rates) < MIN_TRIALS or (_winner(np.array(losses), first_loss) == 0 and len(rates) < MAX_TRIALS):
        rates.insert(0, last_rate / TRIAL_FACTOR ** (len(rates) + 1))
        losses.insert(0, _try(job, batch_size, rates[0], probed))
    return np.array(rates), np.array(losses)


def _winner(losses: np.ndarray, first_loss: float) -> int:
    """Return the index of the lowest rate whose loss fell as far as the lowest loss, or nearly; 0 if none fell."""
    lowest = np.nanmin(losses, initial=first_loss)
    return int((losses <= lowest + ALIKE * (first_loss - lowest)).argmax())


def _try(job: Job, batch_size: int, rate: float, probed: TrainingData) -> float:
    """Return the loss after a short run with this rate; NaN if it diverged."""
    n_steps = int(np.clip(TRIAL_SAMPLES // batch_size, MIN_TRIAL_STEPS, MAX_TRIAL_STEPS))
    trainer, draw = _new_trainer(job, batch_size), generator(job.config.seed, "sample", 1)
    batches = _batches(job.rows, batch_size, draw)
    for _ in range(n_steps - 1):
        if trainer.run_epoch(next(batches), batch_size, rate).failed_batch is not None:
            return float("nan")
    return _step(job, trainer, next(batches), rate, probed)


def _new_trainer(job: Job, batch_size: int) -> Trainer:
    config = job.trained_config.replace(average=None)  # the losses are those of the weights after each step
    trainer = job.engine.new_trainer(job.network, job.data, config, None)
    trainer.prepare(batch_size, batch_size)
    return trainer


def _batches(rows: np.ndarray, batch_size: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield whole batches without end, in a new random order for each pass over the rows."""
    while True:
        order = rows if batch_size == len(rows) else draw.permutation(rows)
        for first in range(0, len(rows) - batch_size + 1, batch_size):
            yield order[first : first + batch_size]


def _step(job: Job, trainer: Trainer, batch: np.ndarray, rate: float, probed: TrainingData) -> float:
    """Take one step and return the loss after it; NaN if it is not finite."""
    if trainer.run_epoch(batch, len(batch), rate).failed_batch is not None:
        return float("nan")
    try:
        network = trainer.network()
    except SettingsError:  # a weight is not finite
        return float("nan")
    loss = _loss(job, network, probed)
    return loss if np.isfinite(loss) else float("nan")


def _loss(job: Job, network: Network, data: TrainingData) -> float:
    """Return the loss without the L2 term and dropout."""
    with np.errstate(over="ignore", invalid="ignore"):  # the caller checks the loss
        logits = job.engine.predict_logits(network, data.inputs, job.config.threads)
        return float(reference.mean_loss(network.output, logits, data.targets, data.sample_weight)[0])
