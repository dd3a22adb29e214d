"""MLPClassifier: fastnn's networks with the interface of scikit-learn's MLPClassifier, and more parameters."""

from typing import Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from fastnn.estimators.dense_layers import DenseLayersMixin
from fastnn.estimators.descriptions import described
from fastnn.estimators.network_classifier import NetworkClassifier


@described("MLPClassifier")
class MLPClassifier(DenseLayersMixin, NetworkClassifier):
    """Multilayer perceptron for classification, with scikit-learn's parameters and attributes.

    With equal parameters, `random_state` and ``dtype="float64"``, the weights after every epoch equal scikit-learn's up
    to rounding. docs/from-scikit-learn.md lists the differences.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    MLPRegressor : The same for targets that are numbers.
    CNNClassifier : Convolutional networks, for images.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> model = fastnn.MLPClassifier((32,), early_stopping=True, random_state=0, input_scale=1 / 16)
    >>> model = model.fit(data.images[:1400], data.labels[:1400])
    >>> model.score(data.images[1400:], data.labels[1400:]) > 0.85
    True
    >>> model.predict_proba(data.images[:2]).shape
    (2, 10)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str = "auto",
        n_threads: int | None = None,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        average: Any = None,
        initializer: str | None = None,
        transform_layer: int = -1,
        augment: Any = None,
        class_weight: Any = None,
        input_scale: float = 1.0,
        dtype: Any = "float32",
        schedule: Any = None,
        threshold: float | None = None,
        unknown_label: Any = None,
        standardize: bool = False,
        image_shape: Any = None,
        buffer_blocks: int = 16,
        memory: Any = "1GB",
    ) -> None:
        self._set_parameters(locals())

    @property
    def _label_binarizer(self) -> LabelBinarizer:
        """scikit-learn's encoder of the labels. Converters of its MLPClassifier, such as skl2onnx's, read it."""
        check_is_fitted(self, "network_")
        if self.network_.input_transform != 1:
            raise AttributeError(
                f"{self.network_} scales its inputs, which readers of coefs_ do not see: use export_onnx or to_model"
            )
        labels = np.eye(len(self.classes_), dtype=np.int64) if self._multilabel else self.classes_
        return LabelBinarizer().fit(labels)
