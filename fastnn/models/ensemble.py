"""`Ensemble`: a model of several networks, whose predictions are the mean of theirs.

Dimensions: N samples, C outputs, M networks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from fastnn.checks import short
from fastnn.datasets.convert import describe
from fastnn.errors import DataError, SettingsError
from fastnn.models.hidden import LAST
from fastnn.models.model import Model
from fastnn.network import Network

FEWEST = 2
"""The smallest number of networks in an ensemble."""
# The names that all networks of an ensemble share.
_NAMES = [each.name for each in fields(Model) if each.name not in ("network", "metadata")]


@dataclass(frozen=True, eq=False)
class Ensemble(Model):
    """A `Model` of several networks, which predicts the mean of their outputs.

    The mean is taken of probabilities, and of numbers for a regression, never of logits. Each network then has one
    vote of the same weight. Logits have no common scale: those of one overconfident network would outvote the others.
    The cross-entropy of the mean of probabilities is at most the mean of the cross-entropies of the networks.

    `Ensemble.of` makes one. It predicts, evaluates and saves as any other model. What needs a single network, such as
    an explanation, takes one of its `members`.

    Parameters
    ----------
    classes, image_shape, metadata, feature_names, unknown, pixels
        As in `Model`.
    networks : tuple of M Network
        Two or more networks, with the same number of inputs, the same outputs and the same dtype.

    Raises
    ------
    SettingsError
        If there are fewer than two networks, or they do not fit together.

    References
    ----------
    L. K. Hansen, P. Salamon: Neural Network Ensembles, IEEE Transactions on Pattern Analysis and Machine Intelligence
    12 (1990).

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> networks = [fastnn.Network.for_data(data, (16,), seed=seed) for seed in range(3)]
    >>> results = [fastnn.train(each, data, epochs=20, seed=seed) for seed, each in enumerate(networks)]
    >>> ensemble = fastnn.Ensemble.of(fastnn.Model.for_data(each.network, data) for each in results)
    >>> len(ensemble.members), ensemble.predict(data.images[:3]).tolist()
    (3, [0, 1, 2])
    """

    network: Network = field(init=False, repr=False)  # an ensemble has none: see `__getattr__`
    networks: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", tuple(self.networks))
        if len(self.networks) < FEWEST:
            raise SettingsError(f"{len(self.networks)} networks, expected {FEWEST} or more for an ensemble")
        first = _shape(self.networks[0])
        for number, network in enumerate(self.networks[1:], start=2):
            if _shape(network) != first:
                found, expected = map(_described, (_shape(network), first))
                raise SettingsError(f"network {number} of the ensemble has {found}, expected {expected} as network 1")

    @classmethod
    def of(cls, models: Iterable[Any]) -> "Ensemble":
        """Return the ensemble of two or more models.

        Parameters
        ----------
        models : iterable of Model, Network, result of `train`, or fitted estimator
            Their classes, feature names, image shape, pixels and threshold are equal. Their layers may differ. The
            networks of ensembles become members, too.

        Returns
        -------
        Ensemble

        Raises
        ------
        SettingsError
            If there are fewer than two networks, or they do not fit together.
        DataError
            If a name differs.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Ensemble.of(fastnn.Network.initialize((4, 3, 2), seed=seed) for seed in range(2)).summary
        'Ensemble of 2: Network(4 -> 3 relu -> 2 softmax, float32, 23 parameters)'
        """
        from fastnn.models.convert import as_model

        if not isinstance(models, Iterable) or isinstance(models, str):
            raise SettingsError(f"models are {describe(models)}, expected two or more models, such as a list of them")
        found = [as_model(each) for each in models]
        for number, model in enumerate(found[1:], start=2):
            for name in _NAMES:
                value, expected = getattr(model, name), getattr(found[0], name)
                if value != expected:
                    raise DataError(
                        f"{name} of model {number} are {short(value)}, expected {short(expected)}, as of model 1"
                    )
        names = {name: getattr(found[0], name) for name in _NAMES} if found else {"classes": None}
        return cls(**names, networks=tuple(network for model in found for network in model.networks))

    @property
    def members(self) -> tuple[Model, ...]:
        """A model of each network, with the names of the ensemble."""
        names = {name: getattr(self, name) for name in _NAMES}
        return tuple(Model(network, **names) for network in self.networks)

    @property
    def summary(self) -> str:
        """The number of networks, and each kind of them, in one line."""
        kinds = "; ".join(dict.fromkeys(map(repr, self.networks)))
        return f"Ensemble of {len(self.networks)}: {kinds}"

    def transform(self, x: Any, layer: int = LAST, *, backend: str = "auto") -> np.ndarray:
        """Raise SettingsError: networks do not share hidden units. The `members` have this method."""
        raise _needs_one(self)

    def __getattr__(self, name: str) -> Any:
        if name == "network":
            raise _needs_one(self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _needs_one(ensemble: Ensemble) -> SettingsError:
    n = len(ensemble.networks)
    return SettingsError(
        f"the model is an ensemble of {n} networks, expected one of them: --member 1 to {n}, or model.members[0] in "
        "Python"
    )


def _shape(network: Network) -> tuple[int, int, str, str]:
    return network.n_inputs, network.n_outputs, network.output, str(network.dtype)


def _described(shape: tuple[int, int, str, str]) -> str:
    return "{} inputs and {} {} outputs in {}".format(*shape)
