"""`Plan`: what a run will do with its data, before it starts: the splits, the network, the settings and what to say.

Data of one's own have no recipe, so their defaults are chosen from the data. Targets of a regression are standardised
for training; the network that is saved and evaluated predicts the numbers of the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastnn.datasets.dataset import Dataset, class_text
from fastnn.datasets.sparse import is_sparse
from fastnn.datasets.splits import Splits
from fastnn.errors import DataError, SettingsError
from fastnn.evaluation.evaluate import check_fit, with_columns_of
from fastnn.models import Model
from fastnn.models.pictures import measured_pixels
from fastnn.network import Network, Standardization
from fastnn.network.parts import split_frozen
from fastnn.network.targets import TargetScale
from fastnn.optim.config import TrainingConfig
from fastnn.streams import BlockedData, BlockedView
from fastnn.streams.labels import Labels
from fastnn.streams.view import with_classes

# Data of one's own: enough steps for a network to settle, whatever the number of samples.
_STEPS = 20_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 20, 1000
# Epochs without a lower validation loss. The weights of the best epoch are kept.
_PATIENCE = 100
_BATCH_SIZE = 32
# Three times the usual rate of Adam, which the cosine schedule lowers to 0. A table of houses needs it, see
# benchmarks/tables.py.
_RATE = 0.003
_HIDDEN = (100,)
# L2 is a prior of the weights: the more samples, the less it weighs beside each.
_PRIOR = 0.1


def default_config(n_samples: int, **settings: Any) -> TrainingConfig:
    """Return the default settings for `n_samples` training samples of data of one's own, with these settings instead.

    The learning rate belongs to the optimizer and the batch size here: with others, it is that of the general rule.
    """
    rate = None if {"optimizer", "batch_size"} & set(settings) else _RATE
    epochs = -(-_STEPS * _BATCH_SIZE // max(1, n_samples))
    return TrainingConfig(
        epochs=min(max(epochs, _FEWEST_EPOCHS), _MOST_EPOCHS),
        batch_size=_BATCH_SIZE,
        optimizer="adam",
        learning_rate=rate,
        schedule="cosine",
        l2=_PRIOR / max(100, n_samples),
        early_stopping=_PATIENCE,
    ).adapted(**settings)


def default_hidden() -> tuple[int, ...]:
    """Return the default units of the hidden layers for data of one's own."""
    return _HIDDEN


@dataclass(frozen=True)
class Plan:
    """A run before it starts."""

    splits: Splits  # labels are class numbers, or the targets as they are in the data
    network: Network  # initialised; of a regression, it predicts standardised targets
    config: TrainingConfig
    scale: TargetScale | None  # that of a regression's targets
    notes: tuple[str, ...] = field(default=())  # what was decided for the user, one sentence each
    standardize: bool = False  # whether the network standardises its inputs column by column

    @property
    def task(self) -> str:
        """Either "classification" or "regression"."""
        return "classification" if self.scale is None else "regression"

    @property
    def sample(self) -> Dataset:
        """The training data; of data in blocks, the rows held out for validation, which were drawn from all of them."""
        return _sample(self.splits)

    def for_training(self, data: Any) -> Any:
        """Return a `Dataset` or `BlockedData` with the targets that the network is trained on."""
        if self.scale is None:
            return data
        if isinstance(data, BlockedData):
            numbers = [each.tolist() for each in self.scale]
            labels = Labels(None, len(self.scale.mean))
            return BlockedView(data, self.scale.standardised, labels, tag=repr(numbers))
        assert data.labels is not None
        return replace(data, labels=self.scale.standardised(data.labels))

    def model(self, network: Network) -> Model:
        """Return the model of a trained network: with names, and in the units of the data."""
        return Model.for_data(network if self.scale is None else self.scale.taken_up(network), self.sample)


def make_plan(
    splits: Splits,
    hidden: Sequence[Any],
    config: TrainingConfig,
    *,
    standardize: bool | None = None,
    start: Model | None = None,
    **settings: Any,
) -> Plan:
    """Return the plan of a run; DataError if the data do not fit together or have no labels.

    Of a model with other classes than the data, the last layer is replaced by a new one.

    hidden: the hidden layers
    standardize: whether the network standardises its inputs; None: if they are a table of floating-point numbers
    start: the model to start from, instead of random weights
    settings: those of `Network.for_data`
    """
    saved, notes = None, _notes(splits)
    if start is None:
        splits = _with_common_classes(splits)
    else:
        splits, saved, note = _with_model(splits, start, config.seed)
        notes = (*notes, *note)
    train = _sample(splits)
    scale = TargetScale.fit(train.labels) if train.labels is not None and train.has_targets else None
    if standardize is None:
        standardize = train.image_shape is None and train.images.dtype.kind == "f" and not is_sparse(train.images)
    if saved is None:
        if not standardize:
            settings = {**_background_at_zero(train), **settings}
        network = Network.for_data(train, hidden, standardize=standardize, **settings)
    else:
        network = saved if scale is None else scale.removed(saved)
        standardize = network.standardization is not None
    if config.frozen:
        split_frozen(network, config.frozen)  # raises the error of a number out of range
    plan = Plan(splits, network, config, scale, notes, standardize)
    for part in splits:
        if not isinstance(part, BlockedData):  # its blocks are checked when they are read
            check_fit(network, plan.for_training(part))  # fail before training, not an hour later
    return plan


def _sample(splits: Splits) -> Dataset:
    return splits.validation if isinstance(splits.train, BlockedData) else splits.train


def _background_at_zero(data: Dataset) -> dict[str, Any]:
    """Return the setting that maps the background of images to 0 if it is another number, as in dark on light.

    Otherwise most inputs are large and alike, and hidden units die.
    """
    pixels = measured_pixels(data)
    if pixels is None or pixels[0] == 0:
        return {}
    n_inputs, scale = data.images.shape[1], 1 / abs(pixels[1] - pixels[0])
    return {"input_scale": Standardization([pixels[0]] * n_inputs, [scale] * n_inputs)}


def _with_model(splits: Splits, model: Model, seed: int) -> tuple[Splits, Network, tuple[str, ...]]:
    """Return the splits with the columns of a model, the network to start from, and what to say about it.

    If all labels are classes of the model, the splits get its class numbers. Otherwise the network gets a new last
    layer. DataError if the columns do not fit, or the one has classes and the other predicts numbers.
    """
    first = _sample(splits)
    if first.labels is not None and first.has_targets != (model.classes is None):
        kinds = ("numbers", "classes") if model.classes is None else ("classes", "numbers")
        raise DataError(f"{first.name}: the model to start from predicts {kinds[0]}, but the labels are {kinds[1]}")
    splits = Splits(*(_with_columns(model, part) for part in splits))
    if first.labels is None or model.classes is None:
        return splits, model.network, ()
    known = {class_text(each) for each in model.classes}
    labels = [label for part in splits if part.labels is not None for label in part.present_classes()]
    unknown = [label for label in labels if class_text(label) not in known]
    if not unknown:
        parts = [part if part.labels is None else _with_classes(part, model.classes) for part in splits]
        return Splits(*parts), model.network, ()
    found = f"{first.name} has classes that the model does not have, such as {unknown[0]!r}"
    if len(model.network.weights) == 1:
        raise SettingsError(f"{found}, and {model.network} has no layer before the last one to start from")
    splits = _with_common_classes(splits)
    network = model.network.with_outputs(max(2, splits.train.n_classes), output="softmax", seed=seed)
    return splits, network, (f"{found}: the model's last layer is replaced by one of {network.n_outputs} outputs",)


def _with_common_classes(splits: Splits) -> Splits:
    """Return the splits with labels that number the classes of all of them.

    Without gaps, such as 1 to 9 without a 0, the network has no output that no sample belongs to.
    """
    first = _sample(splits)
    if first.labels is None:
        raise DataError(f"{first.name} has no labels, expected some: name their column with label (--label)")
    if first.has_targets:
        return splits
    present = {label for part in splits if part.labels is not None for label in part.present_classes()}
    classes = sorted(present, key=None if all(isinstance(each, int) for each in present) else str)
    if first.classes is None and list(classes) == list(range(len(classes))):
        return splits
    return Splits(*(_with_classes(part, classes) for part in splits))


def _with_classes(part: Any, classes: Sequence[Any]) -> Any:
    """Return a `Dataset` or `BlockedData` whose labels number these classes."""
    return with_classes(part, classes) if isinstance(part, BlockedData) else part.with_classes(classes)


def _with_columns(model: Model, part: Any) -> Any:
    """Return a `Dataset` or `BlockedData` with the columns of a model; DataError if one is missing."""
    if not isinstance(part, BlockedData):
        return with_columns_of(model, part)
    names, wanted = part.feature_names, model.feature_names
    with_columns_of(model, part.head(1))  # raises the error of a missing column
    if names is None or wanted is None or names == wanted:
        return part
    return BlockedView(part, columns=[names.index(each) for each in wanted])


def _notes(splits: Splits) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for part in splits for note in part.notes))
