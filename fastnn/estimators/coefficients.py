"""`coefs_` and `intercepts_`: the arrays of the fitted network, as lists whose items can be replaced."""

from typing import Any, SupportsIndex

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fastnn.checks import short
from fastnn.errors import SettingsError
from fastnn.network import Network
from fastnn.network.aligned import aligned_copy

FIXED_LENGTH = "the network has a fixed number of layers: replace an item, or assign a whole list to the attribute"


class ArrayList(list[Any]):
    """The weights or the biases of a network, as a list. Assigning an item gives the network another array.

    A change of an array in place is a change of the network. Its length is fixed, and copies are plain lists.
    """

    def __init__(self, network: Network, kind: str) -> None:
        super().__init__(getattr(network, kind))
        self._network, self._kind = network, kind

    def __setitem__(self, index: Any, value: Any) -> None:
        """Replace an array, or those of a slice, by copies; SettingsError unless shapes fit and values are finite."""
        chosen = range(len(self))[index]
        numbers = chosen if isinstance(chosen, range) else [chosen]
        values = list(value) if isinstance(chosen, range) else [value]
        if len(values) != len(numbers):
            raise SettingsError(f"{len(values)} arrays, expected {len(numbers)}: {FIXED_LENGTH}")
        for number, array in zip(numbers, values, strict=True):
            super().__setitem__(number, self._checked(number, array))
        setattr(self._network, self._kind, tuple(self))

    def _checked(self, number: int, value: Any) -> np.ndarray:
        """Return a copy of the array as the network stores it."""
        named = {"weights": "coefs_", "biases": "intercepts_"}[self._kind]
        try:
            with np.errstate(over="ignore"):  # the next check finds what became infinite
                array = aligned_copy(np.asarray(value), self._network.dtype)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{named}[{number}] is {short(value)}, expected an array of numbers") from error
        if array.shape != self[number].shape:
            raise SettingsError(f"{named}[{number}] has shape {array.shape}, expected {self[number].shape}")
        if not np.isfinite(array).all():
            raise SettingsError(f"{named}[{number}] is not finite as {array.dtype}, expected finite numbers")
        return array

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(FIXED_LENGTH)

    append = extend = insert = pop = remove = clear = sort = reverse = _refuse
    __delitem__ = __iadd__ = __imul__ = _refuse

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return list, (list(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [array.copy() for array in self]


class CoefficientsMixin(BaseEstimator):
    """The attributes `coefs_` and `intercepts_` of an estimator whose fit sets `network_`."""

    network_: Network

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, such as (fan_in, fan_out). Assigning an item, or a list, changes the network."""
        check_is_fitted(self, "network_")
        return ArrayList(self.network_, "weights")

    @coefs_.setter
    def coefs_(self, coefs: Any) -> None:
        check_is_fitted(self, "network_")
        self.network_ = self.network_.like(coefs, self.network_.biases)

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer, (fan_out,). Assigning an item, or a list, changes the network."""
        check_is_fitted(self, "network_")
        return ArrayList(self.network_, "biases")

    @intercepts_.setter
    def intercepts_(self, intercepts: Any) -> None:
        check_is_fitted(self, "network_")
        self.network_ = self.network_.like(self.network_.weights, intercepts)
