"""One sample's way through a network, step by step, with the numbers: as arrays, as text and as a figure."""

from fastnn.explanation.figure import ExplainDisplay
from fastnn.explanation.steps import Explanation, LayerSteps, explain

__all__ = ["ExplainDisplay", "Explanation", "LayerSteps", "explain"]
