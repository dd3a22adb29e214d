"""Recipes are complete runs with a name: the default, the five programs that fastnn replaces, and records."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastnn.datasets import load_digits, load_mnist
from fastnn.datasets.splits import Splits, split
from fastnn.errors import SettingsError
from fastnn.network.layers import Dense, Layer, parse_layers
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Adam
from fastnn.suggestions import did_you_mean


@dataclass(frozen=True)
class Recipe:
    """A complete run: its data, network and settings."""

    name: str  # on the command line
    title: str  # one line that describes the run
    held_out: float  # the fraction of the samples that is held out of training, chosen by the seed
    hidden: tuple[int, ...] = ()  # the number of units in each hidden layer, if all of them are dense
    layers: str = ""  # the hidden layers, if they are not: as `fastnn train --layers` has them
    letter: str = ""  # "A" to "E" for the five programs that fastnn replaces
    data: Literal["mnist", "digits"] = "mnist"  # MNIST, or scikit-learn's 8x8 digits
    # The test set. "test": MNIST's own test images, used once, after training; the held-out samples are the validation
    # set. "held-out": the held-out samples, as in the program that the recipe replaces. No setting is tuned on them.
    tested_on: Literal["test", "held-out"] = "test"
    config: TrainingConfig = field(default_factory=TrainingConfig)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that differ from the defaults, as keyword arguments for `fastnn.train`."""
        return self.config.changed()

    @property
    def hidden_layers(self) -> tuple[int | Layer, ...]:
        """The hidden layers, as `Network.for_data` has them."""
        return tuple(parse_layers(self.layers)) if self.layers else self.hidden

    def configure(self, hidden: Sequence[int | Layer], activation: str | Sequence[str], **given: Any) -> TrainingConfig:
        """Return the settings of the recipe with other values for some, for a network with these hidden layers.

        The recipe's learning rate was chosen for its own network, optimizer and batch size. If one of them differs, and
        no rate is given, the optimizer's default takes its place.

        Parameters
        ----------
        hidden : sequence of int or Layer
            The hidden layers; only their kinds and activations matter here.
        activation : str or sequence of str
            As in `Network.for_data`; that of the recipes is "relu".
        given
            Settings of `TrainingConfig`.

        Examples
        --------
        >>> import fastnn
        >>> recipe = fastnn.get_recipe("mnist")
        >>> recipe.configure((64,), "relu", epochs=5).learning_rate
        0.5
        >>> recipe.configure((64,), "relu", optimizer="adam").learning_rate is None
        True
        """
        own, config = self.config, self.config.adapted(**given)
        same_run = (config.update_rule, config.batch_size) == (own.update_rule, own.batch_size)
        names = [activation] if isinstance(activation, str) else activation
        same_network = _outline(hidden) == _outline(self.hidden_layers) and set(names) <= {"relu"}
        if "learning_rate" in given or (same_run and same_network):
            return config
        return config.replace(learning_rate=None)

    def load(self, seed: int = 0) -> Splits:
        """Load the recipe's data and split it; the seed determines which samples are held out.

        ``validation`` and ``test`` are the same data if `tested_on` is "held-out".

        Examples
        --------
        >>> import fastnn
        >>> splits = fastnn.get_recipe("digits").load(seed=0)
        >>> len(splits.train), len(splits.test)
        (1438, 359)
        """
        pool, test = (load_digits(), None) if self.data == "digits" else load_mnist()
        return split(pool, test if self.tested_on == "test" else None, self.held_out, seed)


def _outline(hidden: Sequence[int | Layer]) -> list[tuple[str, str]]:
    """Return the kind and the activation of each hidden layer."""
    layers = (each if isinstance(each, Layer) else Dense for each in hidden)
    return [(each.kind, getattr(each, "activation", None) or each.default_activation) for each in layers]


# The activations follow the pools, which is the same for ReLU and a quarter of the work.
_FAST_LAYERS = "conv:24x5:identity,pool:2:relu,conv:32x3:identity,pool:2:relu,256"
_ALL = (
    Recipe(
        name="mnist",
        title="the default: 784-128-10 on MNIST; images are shifted, rotated and scaled a little in each epoch",
        hidden=(128,),
        held_out=1 / 12,
        config=TrainingConfig(
            epochs=20, batch_size=64, learning_rate=0.5, schedule="cosine", augment="shift=1,rotate=10,scale=0.1"
        ),
    ),
    Recipe(
        name="decay",
        letter="A",
        title="784-64-10 on MNIST, gradient descent with learning-rate decay",
        hidden=(64,),
        held_out=1 / 12,
        config=TrainingConfig(epochs=15, batch_size=64, learning_rate=0.3, schedule="inverse-time:0.2"),
    ),
    Recipe(
        name="fundamentals",
        letter="B",
        title="784-32-10 on MNIST, plain gradient descent, the first network of the course",
        hidden=(32,),
        held_out=1 / 12,
        config=TrainingConfig(epochs=5, batch_size=64, learning_rate=0.1),
    ),
    Recipe(
        name="full-batch",
        letter="C",
        title="784-10-10 on MNIST, full-batch gradient descent, tested on 1,000 of the training images",
        hidden=(10,),
        held_out=1 / 60,
        tested_on="held-out",
        config=TrainingConfig(epochs=200, batch_size=None, learning_rate=0.3),
    ),
    Recipe(
        name="dev-set",
        letter="D",
        title="784-128-10 on MNIST, gradient descent with L2, tested on a dev set",
        hidden=(128,),
        held_out=1 / 10,
        tested_on="held-out",
        config=TrainingConfig(epochs=10, batch_size=64, learning_rate=0.1, l2=0.0001),
    ),
    Recipe(
        name="digits",
        letter="E",
        title="64-32-32-10 on scikit-learn's 8x8 digits, gradient descent",
        data="digits",
        hidden=(32, 32),
        held_out=1 / 5,
        tested_on="held-out",
        config=TrainingConfig(epochs=60, batch_size=32, learning_rate=0.1),
    ),
    Recipe(
        name="lenet",
        title="LeNet-5 on MNIST: 6C5-P-16C5-P-120-84-10, Adam, cosine schedule",
        layers="conv:6x5,pool:2,conv:16x5,pool:2,120,84",
        held_out=1 / 12,
        config=TrainingConfig(epochs=15, batch_size=64, optimizer="adam", learning_rate=0.002, schedule="cosine"),
    ),
    Recipe(
        name="fast",
        title="24C5-P-32C3-P-256-10 on MNIST, Adam, one cycle: 99 % after one epoch",
        layers=_FAST_LAYERS,
        held_out=1 / 12,
        config=TrainingConfig(
            epochs=5,
            batch_size=64,
            optimizer=Adam(0.7, 0.9),
            learning_rate=0.006,
            schedule="one-cycle:0.2,0.1",
            label_smoothing=0.1,
        ),
    ),
    Recipe(
        name="simard-2003",
        title="784-800-10 on MNIST with elastic distortions, after Simard, Steinkraus and Platt 2003",
        hidden=(800,),
        held_out=1 / 60,
        config=TrainingConfig(
            epochs=450,
            batch_size=64,
            learning_rate=0.5,
            schedule="cosine",
            augment="alpha=34,sigma=4,rotate=8,scale=0.08,shear=8",
        ),
    ),
    Recipe(
        name="ciresan-2010",
        title="784-1500-1000-500-10 on MNIST with elastic distortions, after Ciresan et al. 2010",
        hidden=(1500, 1000, 500),
        held_out=1 / 60,
        config=TrainingConfig(
            epochs=400,
            batch_size=64,
            learning_rate=0.2,
            schedule="cosine",
            augment="alpha=36,sigma=5,rotate=15,scale=0.15",
        ),
    ),
    Recipe(
        name="permutation-invariant",
        title="784-1000-500-250-10 on MNIST, batch normalisation and dropout; the order of pixels does not matter",
        layers="1000:identity,norm:relu,500:identity,norm:relu,250:identity,norm:relu",
        held_out=1 / 60,
        config=TrainingConfig(
            epochs=60,
            batch_size=100,
            optimizer="adam",
            learning_rate=0.002,
            schedule="cosine",
            dropout=(0.2, 0.3),
            label_smoothing=0.1,
        ),
    ),
    Recipe(
        name="tiny",
        title="10C5-P-20C3-P-10 on MNIST: 7,090 parameters",
        layers="conv:10x5:identity,pool:2:relu,conv:20x3:identity,pool:2:relu",
        held_out=1 / 60,
        config=TrainingConfig(
            epochs=60,
            batch_size=64,
            optimizer="adam",
            learning_rate=0.003,
            schedule="cosine",
            augment="shift=1,rotate=10,scale=0.1",
        ),
    ),
    Recipe(
        name="one-minute",
        title="24C5-P-32C3-P-256-10 on MNIST, augmented images: 99.5 % in a minute of two cores",
        layers=_FAST_LAYERS,
        held_out=1 / 60,
        config=TrainingConfig(
            epochs=40,
            batch_size=64,
            optimizer=Adam(0.7, 0.9),
            learning_rate=0.004,
            schedule="one-cycle:0.2,0.1",
            label_smoothing=0.1,
            augment="shift=2,rotate=10,scale=0.1",
        ),
    ),
    Recipe(
        name="ten-minutes",
        title="32C5-P-64C5-P-256-10 on MNIST, augmented images; three of them (--members 3) train in ten minutes",
        layers="conv:32x5:identity,pool:2:relu,conv:64x5:identity,pool:2:relu,256",
        held_out=1 / 60,
        config=TrainingConfig(
            epochs=40,
            batch_size=64,
            optimizer="adam",
            learning_rate=0.001,
            schedule="cosine",
            label_smoothing=0.1,
            augment="shift=2,rotate=15,scale=0.15,shear=10",
        ),
    ),
)
RECIPES = {recipe.name: recipe for recipe in _ALL}
"""All recipes by name, in the order in which ``fastnn recipes`` lists them: dict of str to `Recipe`."""


def get_recipe(name: str) -> Recipe:
    """Return a recipe by its name or letter.

    Parameters
    ----------
    name : str
        A key of `RECIPES`, or a letter from A to E in either case.

    Returns
    -------
    Recipe

    Raises
    ------
    SettingsError
        If no recipe has that name or letter.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.get_recipe("e").name
    'digits'
    """
    for recipe in RECIPES.values():
        if name == recipe.name or (recipe.letter and name.upper() == recipe.letter):
            return recipe
    meant = did_you_mean(name, RECIPES)
    raise SettingsError(f"recipe is {name!r}{meant}, expected one of {', '.join(RECIPES)}, or a letter from A to E")
