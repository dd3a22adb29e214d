"""CNNClassifier: convolutional networks with the interface of scikit-learn's estimators."""

from typing import Any

from fastnn.estimators.descriptions import described
from fastnn.estimators.image_layers import ImageLayersMixin
from fastnn.estimators.network_classifier import NetworkClassifier


@described("CNNClassifier")
class CNNClassifier(ImageLayersMixin, NetworkClassifier):
    """Convolutional network for the classification of images, with the parameters of MLPClassifier.

    scikit-learn has no such estimator. With dense layers only and ``initializer=None``, it is the same as
    MLPClassifier, to the same bits.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    MLPClassifier : Dense layers, for tables.
    fastnn.Conv2D, fastnn.MaxPool2D, fastnn.AvgPool2D, fastnn.BatchNorm, fastnn.Dense : The layers.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> layers = [fastnn.Conv2D(8, 3), fastnn.MaxPool2D(), 32]
    >>> settings = {"early_stopping": True, "learning_rate_init": 0.01, "random_state": 0, "input_scale": 1 / 16}
    >>> model = fastnn.CNNClassifier(layers, (8, 8), **settings)
    >>> model = model.fit(data.images[:1400], data.labels[:1400])
    >>> model.score(data.images[1400:], data.labels[1400:]) > 0.9
    True
    >>> model.network_
    Network(1x8x8 -> conv 3x3 8x6x6 relu -> max pool 2x2 8x3x3 -> 32 relu -> 10 softmax, float32, 2,746 parameters)
    """

    def __init__(
        self,
        layers: Any = None,
        image_shape: Any = None,
        activation: Any = "relu",
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
        initializer: str | None = "auto",
        transform_layer: int = -1,
        augment: Any = None,
        class_weight: Any = None,
        input_scale: float = 1.0,
        dtype: Any = "float32",
        schedule: Any = None,
        threshold: float | None = None,
        unknown_label: Any = None,
        standardize: bool = False,
        buffer_blocks: int = 16,
        memory: Any = "1GB",
    ) -> None:
        self._set_parameters(locals())
