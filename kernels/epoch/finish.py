"""What follows the update of a step: max-norm, and then the moving average of the parameters.

Both visit a panel right after its update, and only if they are set.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import bias_panel, own_panels, size_of, unit_panel, weight_panel
from fastnn.kernels.ops.averaging import average_panel
from fastnn.kernels.ops.matmul import ONE_ROW
from fastnn.kernels.ops.max_norm import limit_panel


class Finish(NamedTuple):
    """What follows each update.

    max_norm: float64, the largest norm of a unit's incoming weights, or 0 for no limit
    decay: float64, that of the moving average
    average: like the parameters, or of length 0 for none
    """

    max_norm: float
    decay: float
    average: np.ndarray


@inlined
def is_needed(finish):
    """Whether anything follows an update."""
    return finish.max_norm > 0 or len(finish.average) > 0


@inlined
def finish_weights(member, layout, layer, finish, share):
    """Do what follows the update of the weights and biases that lead to this member's panels of layer ``layer + 1``.

    share: the `share_of_step`, in the working dtype
    """
    never_inline()
    parameters, rows = layout.parameters, size_of(layout, layer)
    for p in own_panels(member, layout, layer + 1):
        panel = unit_panel(layout, layer + 1, p)
        at = weight_panel(layout, layer, panel)
        if finish.max_norm > 0:
            limit_panel(panel.vectors, parameters, at, rows, finish.max_norm)
        if len(finish.average):
            average_panel(panel.vectors, finish.average, parameters, at, rows, share)
            bias_at = bias_panel(layout, layer, panel)
            average_panel(panel.vectors, finish.average, parameters, bias_at, ONE_ROW, share)
