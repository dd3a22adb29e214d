"""Figures of training runs, predictions and networks, in the style of scikit-learn's displays.

A display stores its data as attributes. `plot` draws them and sets `figure_` and `ax_` or `axes_`; the `from_...`
constructors plot at once. Without Axes from the caller, a display makes a figure that pyplot does not know: it need not
be closed, it works without a screen, and a notebook shows the display itself.
"""

from fastnn.plots.classes import ClassAveragesDisplay, ClassScoresDisplay
from fastnn.plots.confidence import CoverageDisplay, ReliabilityDisplay
from fastnn.plots.confusion import ConfusionDisplay
from fastnn.plots.curves import LearningCurveDisplay, RunsDisplay
from fastnn.plots.display import Display
from fastnn.plots.distributions import DistributionsDisplay
from fastnn.plots.samples import MistakesDisplay, SamplesDisplay
from fastnn.plots.weights import ActivationsDisplay, WeightsDisplay

__all__ = [
    "ActivationsDisplay",
    "ClassAveragesDisplay",
    "ClassScoresDisplay",
    "ConfusionDisplay",
    "CoverageDisplay",
    "Display",
    "DistributionsDisplay",
    "LearningCurveDisplay",
    "MistakesDisplay",
    "ReliabilityDisplay",
    "RunsDisplay",
    "SamplesDisplay",
    "WeightsDisplay",
]
