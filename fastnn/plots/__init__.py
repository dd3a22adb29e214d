"""Pictures of training, of predictions and of what is inside a network, in the manner of scikit-learn's displays.

A display keeps what it shows as attributes and draws it with `plot`, which leaves `figure_` and `ax_` or `axes_`; the
`from_...` constructors plot at once. Unless given Axes, it makes a figure that pyplot knows nothing of: nothing to
close, no screen needed, and a notebook shows the display itself.
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
