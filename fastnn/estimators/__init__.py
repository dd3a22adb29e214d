"""scikit-learn estimators around `fastnn.train`."""

from fastnn.estimators.classifier import MLPClassifier
from fastnn.estimators.cnn_classifier import CNNClassifier
from fastnn.estimators.regressor import MLPRegressor

__all__ = ["CNNClassifier", "MLPClassifier", "MLPRegressor"]
