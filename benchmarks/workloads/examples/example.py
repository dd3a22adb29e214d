"""What an example is."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Example(NamedTuple):
    """A part of a script.

    run: takes the classes of a classifier and a regressor, and returns numbers by name, such as scores
    tolerance: the largest difference of these numbers between the libraries that counts as equal
    """

    run: Callable[[Any, Any], dict[str, float]]
    tolerance: float = 0.02

    @property
    def name(self) -> str:
        """The name: that of the function, with hyphens."""
        return self.run.__name__.replace("_", "-")
