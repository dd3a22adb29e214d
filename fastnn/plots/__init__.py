"""Draws training runs, predictions and networks, in the style of scikit-learn's displays.

A display stores its data as attributes. `plot` draws them and sets `figure_` and `ax_` or `axes_`. The `from_...`
constructors also plot. If the caller gives no Axes, the display creates a figure outside pyplot. Such a figure needs no
screen and need not be closed. A notebook shows the display itself.
"""

from fastnn.plots.augmentation import AugmentDisplay
from fastnn.plots.classes import ClassAveragesDisplay, ClassScoresDisplay
from fastnn.plots.confidence import CoverageDisplay, ReliabilityDisplay
from fastnn.plots.confusion import ConfusionDisplay
from fastnn.plots.curves import LearningCurveDisplay, RunsDisplay
from fastnn.plots.display import Display
from fastnn.plots.distributions import DistributionsDisplay
from fastnn.plots.features import FeaturesDisplay
from fastnn.plots.filters import FeatureMapsDisplay, FiltersDisplay
from fastnn.plots.live import LiveCurve
from fastnn.plots.occlusion import OcclusionDisplay
from fastnn.plots.rates import RateSearchDisplay
from fastnn.plots.regression import RegressionDisplay
from fastnn.plots.samples import MistakesDisplay, SamplesDisplay
from fastnn.plots.sweeps import SweepDisplay
from fastnn.plots.weights import ActivationsDisplay, WeightsDisplay

__all__ = [
    "ActivationsDisplay",
    "AugmentDisplay",
    "ClassAveragesDisplay",
    "ClassScoresDisplay",
    "ConfusionDisplay",
    "CoverageDisplay",
    "Display",
    "DistributionsDisplay",
    "FeatureMapsDisplay",
    "FeaturesDisplay",
    "FiltersDisplay",
    "LearningCurveDisplay",
    "LiveCurve",
    "MistakesDisplay",
    "OcclusionDisplay",
    "RateSearchDisplay",
    "RegressionDisplay",
    "ReliabilityDisplay",
    "RunsDisplay",
    "SamplesDisplay",
    "SweepDisplay",
    "WeightsDisplay",
]
