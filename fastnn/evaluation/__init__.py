"""Evaluates predictions: accuracy, confusion matrix, scores per class, worst mistakes, calibration and thresholds.

Shapes in this package: N samples, C classes numbered from 0, M bins of confidence.
"""

from fastnn.evaluation.checks import check_confusion, check_images, check_labels, check_names, check_proba
from fastnn.evaluation.confidence import (
    Coverage,
    Reliability,
    Threshold,
    calibration_error,
    coverage_curve,
    mistakes,
    probability_text,
    reliability,
    threshold_for,
)
from fastnn.evaluation.hidden_patches import Occlusion, occlusion
from fastnn.evaluation.metrics import ClassScores, accuracy, confusion, per_class

__all__ = [
    "ClassScores",
    "Coverage",
    "Occlusion",
    "Reliability",
    "Threshold",
    "accuracy",
    "calibration_error",
    "check_confusion",
    "check_images",
    "check_labels",
    "check_names",
    "check_proba",
    "confusion",
    "coverage_curve",
    "mistakes",
    "occlusion",
    "per_class",
    "probability_text",
    "reliability",
    "threshold_for",
]
