"""Explains one sample: every step of its way through a network, as arrays, as text and as a figure."""

from fastnn.explanation.explanation import Explanation, explain
from fastnn.explanation.figure import ExplainDisplay
from fastnn.explanation.steps import LayerSteps

__all__ = ["ExplainDisplay", "Explanation", "LayerSteps", "explain"]
