"""Explains a prediction: shows every step of one sample through a network as arrays, as text and as a figure."""

from fastnn.explanation.explanation import Explanation, LayerSteps, explain
from fastnn.explanation.figure import ExplainDisplay

__all__ = ["ExplainDisplay", "Explanation", "LayerSteps", "explain"]
