"""`TargetScale`: the mean and the deviation of a regression's targets, which training removes and a network takes up.

Targets of a few hundreds would need other learning rates than targets around 1. So training uses standardised targets.
Afterwards the last layer takes up mean and deviation, and the network predicts the numbers of the data.
"""

from typing import NamedTuple

import numpy as np

from fastnn.network.network import Network


class TargetScale(NamedTuple):
    """The mean and the standard deviation of each target of a regression.

    Attributes
    ----------
    mean, deviation : ndarray of shape (C,) float64

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> data = fastnn.Dataset(np.eye(3), [100.5, 200.5, 300.5])
    >>> scale = fastnn.TargetScale.fit(data.labels)
    >>> scale.standardised(data.labels).ravel().round(3)
    array([-1.225,  0.   ,  1.225])
    >>> network = fastnn.Network.for_data(data, (4,))  # predicts standardised targets
    >>> model = fastnn.Model.for_data(scale.taken_up(network), data)  # predicts numbers like those of the data
    >>> model.predict(data.images).shape
    (3,)
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, targets: np.ndarray) -> "TargetScale":
        """Return the scale of targets (N,) or (N, C). A constant target has deviation 1."""
        targets = np.asarray(targets, np.float64).reshape(len(targets), -1)
        deviation = targets.std(axis=0)
        return cls(targets.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def standardised(self, targets: np.ndarray) -> np.ndarray:
        """Return ``(targets - mean) / deviation`` of targets (N,) or (N, C), as (N, C) float64."""
        scaled: np.ndarray = (np.asarray(targets, np.float64).reshape(len(targets), -1) - self.mean) / self.deviation
        return scaled

    def taken_up(self, network: Network) -> Network:
        """Return the network that predicts targets, from the one that predicts standardised targets."""
        weight, bias = (array.astype(np.float64) for array in (network.weights[-1], network.biases[-1]))
        return _with_last(network, weight * self.deviation, bias * self.deviation + self.mean)

    def removed(self, network: Network) -> Network:
        """Return the network that predicts standardised targets: the inverse of `taken_up`, within rounding."""
        weight, bias = (array.astype(np.float64) for array in (network.weights[-1], network.biases[-1]))
        return _with_last(network, weight / self.deviation, (bias - self.mean) / self.deviation)


def _with_last(network: Network, weight: np.ndarray, bias: np.ndarray) -> Network:
    """Return the network with another weight and bias in its last layer."""
    last = (weight.astype(network.dtype), bias.astype(network.dtype))
    return network.like([*network.weights[:-1], last[0]], [*network.biases[:-1], last[1]])
