"""Central differences, which gradients are compared with."""

import numpy as np


def slopes(function, array):
    """Return the central differences of `function` with respect to every entry of `array`, which it reads."""
    found = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        kept, ends = array[index], []
        for step in (1e-5, -1e-5):
            array[index] = kept + step
            ends.append(function())
        array[index] = kept
        found[index] = (ends[0] - ends[1]) / 2e-5
    return found
