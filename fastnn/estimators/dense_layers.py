"""`DenseLayersMixin`: estimators whose networks are chains of dense layers, given as numbers of units."""

from typing import Any

from sklearn.base import BaseEstimator

from fastnn.checks import short
from fastnn.estimators.parameters import RULES, items
from fastnn.models.model import Model
from fastnn.network import Dense, Layer, Network
from fastnn.network.layers import Shape
from fastnn.network.network import hidden_activations


class DenseLayersMixin(BaseEstimator):
    """Mixin that makes layers of the parameters `hidden_layer_sizes` and `activation`, as scikit-learn does."""

    _rules = RULES
    _accepts_sparse = True

    hidden_layer_sizes: Any
    activation: Any
    image_shape: tuple[int, int] | None
    n_features_in_: int

    def _new_chain(self, n_outputs: int) -> tuple[Shape, list[Layer]]:
        """Return the shape of an input row, and all layers of a new network, each with its activation."""
        units = [*map(int, items(self.hidden_layer_sizes)), n_outputs]
        return (self.n_features_in_,), self._dense(units)

    def _continued_chain(self, network: Network) -> tuple[Shape, list[Layer]]:
        """Return the same of a network that trains on: like scikit-learn's, it keeps its sizes."""
        if not network.is_dense:  # a model from a file
            return network.shapes[0], list(network.layers)
        return network.shapes[0], self._dense(network.sizes[1:])

    def _dense(self, units: Any) -> list[Layer]:
        names = [*hidden_activations(len(units) - 1, self.activation), "identity"]
        return [Dense(size, name) for size, name in zip(units, names, strict=True)]

    def _check_chain(self) -> None:
        """Raise ValueError if a new fit cannot build such a network as the fitted one, which it would replace."""
        if not self.network_.is_dense:
            raise ValueError(f"the model is {self.network_}, which a new fit cannot build; expected warm_start=True")

    def _chain_given(self) -> str:
        """Return the parameter that asks for the layers, for the messages of errors."""
        return f"hidden_layer_sizes is {short(self.hidden_layer_sizes)}"

    @classmethod
    def _chain_parameters(cls, model: Model) -> dict[str, Any]:
        """Return the parameters for an estimator with the network of a model."""
        sizes = model.network.sizes[1:-1]
        return {
            "hidden_layer_sizes": sizes, "activation": model.network.activation, "image_shape": model.image_shape,
        }  # fmt: skip

    # --- Images ------------------------------------------------------------------------------------------------------
    def _as_rows(self, X: Any, reset: bool) -> Any:
        """Return X if it may hold rows; ValueError for an array of images."""
        shape = getattr(X, "shape", ())
        if len(shape) == 3:
            raise ValueError(
                f"Found array with dim 3, shape {tuple(shape)}, while dim <= 2 is required by "
                f"{type(self).__name__}: flatten images into rows with X.reshape(len(X), -1)"
            )
        return X

    def _check_image_shape(self, X: Any, warm: bool) -> None:
        """Raise ValueError if `image_shape` does not fit X, the data as they were given to a fit."""
        if self.image_shape is not None and self.image_shape[0] * self.image_shape[1] != self.n_features_in_:
            height, width = self.image_shape
            expected = f"{height} * {width} = {height * width}"
            raise ValueError(f"X has {self.n_features_in_} features, expected {expected} for image_shape")

    @property
    def _picture_shape(self) -> tuple[int, int] | None:
        """The (height, width) of the image with one channel in a row; None if there is none."""
        return self.image_shape
