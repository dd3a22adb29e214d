"""Predictions of image networks in the Numba backend: features of images, and rows of these for the dense layers."""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastnn.backends.arguments import check_inputs
from fastnn.backends.compiled.image_plan import ImagePlan, image_stages
from fastnn.backends.compiled.layout import Arrangement, checked_arrays, hold, in_kernel_dtype, readonly_view
from fastnn.backends.compiled.trainers import have_kernels
from fastnn.backends.threads import resolve_threads
from fastnn.kernels import team
from fastnn.kernels.epoch.image_passes import forward_images
from fastnn.memory import check_memory
from fastnn.network import Dense, Network
from fastnn.network.aligned import aligned_zeros
from fastnn.network.layers import Conv2D, array_shapes
from fastnn.network.parts import split

# A prediction of at most this many multiplications takes 0.2 ms. Starting threads takes 0.15 ms.
ONE_THREAD_PREDICTION = 2**24
# A prediction of more multiplications takes 0.1 s and more: the caller's thread only waits, so that Ctrl-C reaches it.
SHORT_PREDICTION = 2**32
# About how many inputs and features are converted and kept at a time.
_NUMBERS_AT_ONCE = 2**23
_OFFSETS = 64


class ImageFront(NamedTuple):
    """The image layers of a network, ready to compute features.

    weights, biases: those of the network when this was made: the arrays of other tuples may have other shapes
    arrangement: of the convolutions alone
    plan: likewise
    n_arrays: the number of convolutions
    n_features: the number of outputs of the last image layer
    n_multiplications: about those of a row
    tail: the other layers, which are dense; None if there are none
    """

    weights: Any
    biases: Any
    arrangement: Arrangement
    plan: ImagePlan
    n_arrays: int
    n_features: int
    n_multiplications: int
    tail: Network | None

    def features(self, network: Network, inp: Any, threads: int | None) -> np.ndarray:
        """Return the outputs of the last image layer, (N, features), for inputs that are not checked yet."""
        inp = check_inputs(network, inp)
        out = np.empty((len(inp), self.n_features), network.dtype)
        parameters = aligned_zeros(self.arrangement.n_parameters, network.dtype)
        weights, biases = checked_arrays(network)
        self.arrangement.pack(parameters, (weights[: self.n_arrays], biases[: self.n_arrays]))
        n_rows = max(64, _NUMBERS_AT_ONCE // (network.n_inputs + self.n_features))
        for start in range(0, len(inp), n_rows):
            block = slice(start, start + n_rows)
            self._features(network, parameters, inp[block], out[block], threads)
        return out

    def _features(
        self, network: Network, parameters: np.ndarray, inp: np.ndarray, out: np.ndarray, threads: int | None
    ) -> None:
        images = readonly_view(np.ascontiguousarray(in_kernel_dtype(inp, network.dtype)))
        held, work, rows = hold(inp), self.n_multiplications * len(inp), np.arange(len(inp))
        n_threads = 1
        if work > ONE_THREAD_PREDICTION or threads is not None:
            n_threads = min(resolve_threads(threads), -(-len(inp) // self.arrangement.lanes))
        n_threads = 1 if work <= ONE_THREAD_PREDICTION else n_threads
        named = f"the arrays to predict with {network}"
        check_memory(n_threads * self.plan.n_bytes(self.arrangement.lanes, trains=False), named)
        scale = network.dtype.type(network.input_scale)

        def run(member: team.Member) -> None:
            own = self.plan.new_own(self.arrangement.lanes, trains=False)
            offsets = np.empty(_OFFSETS, np.int64)
            forward_images(member, self.plan.plan, parameters, scale, images, rows, own, offsets, out)

        if n_threads == 1 and work <= SHORT_PREDICTION:
            run(team.Member(0, 1, team.new_barrier()))
        else:
            team.run_team(run, n_threads, caller_works=work <= SHORT_PREDICTION)
        del held


# The fronts hold no copies of arrays: changing a weight in place changes the predictions.
_FRONTS: WeakKeyDictionary[Network, ImageFront] = WeakKeyDictionary()


def image_front(network: Network) -> ImageFront | None:
    """Return the image layers of a network whose other layers are dense; None if no kernels cover them."""
    front = _FRONTS.get(network)
    if front is None or front.weights is not network.weights or front.biases is not network.biases:
        front = _new_front(network)
        if front is not None:
            _FRONTS[network] = front
    return front


def _new_front(network: Network) -> ImageFront | None:
    if not have_kernels(network):
        return None
    stages, n_layers = image_stages(network)
    has_convolution = any(type(stage.layer) is Conv2D for stage in stages)
    if not has_convolution or not all(type(layer) is Dense for layer in network.layers[n_layers:]):
        return None
    network.check_arrays()
    layers = network.layers[:n_layers]
    shapes = [pair for pair, _ in array_shapes(layers, network.shapes[:n_layers]) if pair]
    arrangement = Arrangement((), network.weights[0].dtype, shapes)
    return ImageFront(
        weights=network.weights,
        biases=network.biases,
        arrangement=arrangement,
        plan=ImagePlan(stages, arrangement),
        n_arrays=len(shapes),
        n_features=network.sizes[n_layers],
        n_multiplications=sum(
            layer.n_multiplications(shape) for layer, shape in zip(layers, network.shapes, strict=False)
        ),
        tail=split(network, n_layers)[1] if n_layers < len(network.layers) else None,
    )
