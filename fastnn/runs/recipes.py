"""Recipes: complete runs as named settings; the default one, and the five programs that fastnn replaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastnn.datasets import load_digits, load_mnist
from fastnn.datasets.splits import Splits, split
from fastnn.errors import SettingsError


@dataclass(frozen=True)
class Recipe:
    """A run: its data, network and settings.

    Attributes
    ----------
    name, title : str
    letter : str
        "A" to "E" for the five programs, else "".
    data : {"mnist", "digits"}
        MNIST, or scikit-learn's 8x8 digits.
    hidden : tuple of int
        Units of each hidden layer.
    held_out : float
        The share of the samples that is held out of training, drawn by the seed.
    judged_by : {"test", "held-out"}
        "test": MNIST's own test images, read once, at the end; the held-out samples give the validation curves.
        "held-out": the held-out samples themselves, as in the program the recipe stands for; nothing is chosen by them.
    settings : mapping
        Arguments of `fastnn.train`.
    """

    name: str
    title: str
    hidden: tuple[int, ...]
    held_out: float
    letter: str = ""
    data: Literal["mnist", "digits"] = "mnist"
    tested_on: Literal["test", "held-out"] = "test"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self, seed: int = 0) -> Splits:
        """The recipe's data, split by the seed."""
        pool, test = (load_digits(), None) if self.data == "digits" else load_mnist()
        return split(pool, test if self.tested_on == "test" else None, self.held_out, seed)


def _recipes(*recipes: Recipe) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in recipes}


RECIPES = _recipes(
    Recipe(
        name="mnist",
        title="the default: 784-128-10 on MNIST, cosine schedule, dropout",
        hidden=(128,),
        held_out=1 / 12,
        settings={"epochs": 20, "batch_size": 64, "learning_rate": 0.5, "schedule": "cosine", "dropout": 0.2},
    ),
    Recipe(
        name="decay",
        letter="A",
        title="784-64-10 on MNIST, gradient descent with learning-rate decay",
        hidden=(64,),
        held_out=1 / 12,
        settings={"epochs": 15, "batch_size": 64, "learning_rate": 0.3, "schedule": "inverse-time:0.2"},
    ),
    Recipe(
        name="fundamentals",
        letter="B",
        title="784-32-10 on MNIST, plain gradient descent, the first network of the course",
        hidden=(32,),
        held_out=1 / 12,
        settings={"epochs": 5, "batch_size": 64, "learning_rate": 0.1},
    ),
    Recipe(
        name="full-batch",
        letter="C",
        title="784-10-10 on MNIST, full-batch gradient descent, judged by 1,000 of the training images",
        hidden=(10,),
        held_out=1 / 60,
        tested_on="held-out",
        settings={"epochs": 200, "batch_size": None, "learning_rate": 0.3},
    ),
    Recipe(
        name="dev-set",
        letter="D",
        title="784-128-10 on MNIST, gradient descent with L2, judged by a dev set",
        hidden=(128,),
        held_out=1 / 10,
        tested_on="held-out",
        settings={"epochs": 10, "batch_size": 64, "learning_rate": 0.1, "l2": 1e-4},
    ),
    Recipe(
        name="digits",
        letter="E",
        title="64-32-32-10 on scikit-learn's 8x8 digits, gradient descent",
        data="digits",
        hidden=(32, 32),
        held_out=1 / 5,
        tested_on="held-out",
        settings={"epochs": 60, "batch_size": 32, "learning_rate": 0.1},
    ),
)


def get_recipe(name: str) -> Recipe:
    """The recipe of that name, or of that letter, A to E.

    Raises
    ------
    SettingsError
        If there is none.
    """
    for recipe in RECIPES.values():
        if name == recipe.name or (recipe.letter and name.upper() == recipe.letter):
            return recipe
    raise SettingsError(f"recipe is {name!r}, expected one of {', '.join(RECIPES)}")
