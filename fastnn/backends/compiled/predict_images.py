"""Predictions of image networks in the Numba backend: features of images, and rows of these for the dense layers."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from fastnn.backends.arguments import check_shapes
from fastnn.backends.compiled.image_plan import ImagePlan, Stage, split_images
from fastnn.backends.compiled.layout import Arrangement, checked_arrays, hold, in_kernel_dtype, is_view, readonly_view
from fastnn.backends.compiled.one_image import OneImage, can_be_one
from fastnn.backends.compiled.trainers import have_kernels
from fastnn.backends.threads import resolve_threads
from fastnn.interruptible import interruptible
from fastnn.kernels import team
from fastnn.kernels.compiler.arguments import Record
from fastnn.kernels.epoch.image_passes import forward_images
from fastnn.kernels.epoch.one_image import FEW_IMAGES
from fastnn.memory import check_memory
from fastnn.network import Network
from fastnn.network.aligned import aligned_zeros
from fastnn.network.layers import array_shapes
from fastnn.network.parts import split

# A prediction of at most this many multiplications takes 0.2 ms. Starting threads takes 0.15 ms.
ONE_THREAD_PREDICTION = 2**24
# A prediction of more multiplications takes 0.1 s and more: the caller's thread only waits, so that Ctrl-C reaches it.
SHORT_PREDICTION = 2**32
# About how many inputs and features are converted and kept at a time.
_NUMBERS_AT_ONCE = 2**23


class ImageFront:
    """The image layers of a network, ready to compute features, and the dense layers that follow.

    tail: a network of the dense layers; None if there are none
    """

    def __init__(self, network: Network, stages: Sequence[Stage], n_layers: int) -> None:
        layers = network.layers[:n_layers]
        shapes = [pair for pair, _ in array_shapes(layers, network.shapes[:n_layers]) if pair]
        self._n_arrays, self._n_features = len(shapes), network.sizes[n_layers]
        self._weights, self._biases = network.weights, network.biases
        arrays = self._arrays(network)
        self._dtype, self._input_scale = arrays[0].dtype, network.input_scale
        self._scale = Record(self._dtype.type(network.input_scale))
        given = [*network.weights[: self._n_arrays], *network.biases[: self._n_arrays]]
        self._forms = [(each, array.shape, array.dtype) for each, array in zip(given, arrays, strict=True)]
        self._held = [(array, hold(array)) for array in arrays]
        self._arrangement = Arrangement((), self._dtype, shapes)
        self._sources = Record(self._arrangement.sources(arrays))
        self._plan = ImagePlan(stages, self._arrangement)
        self._one = OneImage(stages, self._arrangement) if can_be_one(stages) else None
        pairs = zip(layers, network.shapes, strict=False)
        self._multiplications = sum(layer.n_multiplications(shape) for layer, shape in pairs)
        self.tail = split(network, n_layers)[1] if n_layers < len(network.layers) else None
        # Copies of the arrays would not follow changes in place, and the entries of lists can be replaced.
        are_tuples = type(self._weights) is type(self._biases) is tuple
        self.can_be_kept = are_tuples and all(map(is_view, arrays, given))

    def _arrays(self, network: Network) -> list[np.ndarray]:
        weights, biases = checked_arrays(network)
        return [*weights[: self._n_arrays], *biases[: self._n_arrays]]

    def is_of(self, network: Network) -> bool:
        """Whether the network still has the arrays for which this was made; their numbers may have changed."""
        if self._weights is not network.weights or self._biases is not network.biases:
            return False
        if self._input_scale != network.input_scale:
            return False
        return all(array.shape == shape and array.dtype is dtype for array, shape, dtype in self._forms)

    def can_predict(self, inp: np.ndarray) -> bool:
        """Whether `predict` is faster for these inputs than `features` and a prediction of the dense layers."""
        return self._one is not None and 0 < len(inp) <= FEW_IMAGES

    def predict(self, network: Network, inp: np.ndarray, tail: Record, output: int) -> np.ndarray:
        """Return what the network predicts of a few checked inputs.

        tail: the table of the dense layers, as `predict` needs it; without rows if there are none
        output: the code of the output function
        """
        if self._multiplications * len(inp) > SHORT_PREDICTION:  # a group of images would leave most lanes idle
            return interruptible(self._predict, network, inp, tail, output)
        return self._predict(network, inp, tail, output)

    def _predict(self, network: Network, inp: np.ndarray, tail: Record, output: int) -> np.ndarray:
        assert self._one is not None
        return self._one.predict(inp, (self._sources, self._scale, tail), network.n_outputs, output)

    def rows_at_once(self, n_inputs: int) -> int:
        """Return the number of rows whose features should be in memory at a time."""
        return max(64, _NUMBERS_AT_ONCE // (n_inputs + self._n_features))

    def features(self, network: Network, inp: np.ndarray, threads: int | None) -> np.ndarray:
        """Return the outputs of the last image layer, (N, features), for checked inputs."""
        images = readonly_view(np.ascontiguousarray(in_kernel_dtype(inp, self._dtype)))
        check_shapes(inputs=(images, (None, network.n_inputs)))  # another thread may have changed that of `inp`
        out = np.empty((len(images), self._n_features), self._dtype)
        held, work, rows = hold(inp), self._multiplications * len(images), np.arange(len(images))
        lanes, n_parameters = self._arrangement.lanes, self._arrangement.n_parameters
        n_threads = min(resolve_threads(threads), -(-len(images) // lanes)) if work > ONE_THREAD_PREDICTION else 1
        named = f"the arrays to predict with {network}"
        check_memory(n_threads * self._plan.n_bytes(lanes, trains=False), named)

        def run(member: team.Member) -> None:
            own, offsets = self._plan.new_own(lanes, trains=False), np.empty(lanes, np.int64)
            parameters = aligned_zeros(n_parameters, self._dtype)
            plan = self._plan.plan
            forward_images(member, plan, self._sources, parameters, self._scale, images, rows, own, offsets, out)

        team.run_team(run, n_threads, caller_works=work <= SHORT_PREDICTION)
        del held
        return out


_FRONTS: WeakKeyDictionary[Network, ImageFront] = WeakKeyDictionary()


def image_front(network: Network) -> ImageFront | None:
    """Return the image layers of a network whose other layers are dense; None if no kernels cover them.

    It is kept while the network exists and has the same arrays.
    """
    front = _FRONTS.get(network)
    if front is None or not front.is_of(network):
        front = _new_front(network)
        if front is not None and front.can_be_kept:
            _FRONTS[network] = front
    return front


def _new_front(network: Network) -> ImageFront | None:
    if not have_kernels(network):
        return None
    split = split_images(network)
    return None if split is None else ImageFront(network, *split)
