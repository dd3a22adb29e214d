"""PyTorch in eager mode, with autograd. Batches come from index_select; one call updates all parameters.

float32 products are computed in float32 (matmul precision "highest", the default). In networks of images, ReLU follows
the pool: the function and its gradient are the same as before it, for a quarter of the work.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks.compare.architecture import Conv, Dense, Pool
from benchmarks.compare.problems import Problem

# Axes of a convolution's weight: (input channels, kernel, kernel, channels) here, channels first in PyTorch.
_TO_TORCH, _FROM_TORCH = (3, 0, 1, 2), (1, 2, 3, 0)


def versions() -> dict[str, str]:
    """Return versions and settings for the report."""
    return {
        "torch": torch.__version__,
        "torch matmul precision": torch.get_float32_matmul_precision(),
        "BLAS of torch": "MKL" if torch.backends.mkl.is_available() else "not MKL",
    }


def _model(problem: Problem, channels_last: bool = False) -> torch.nn.Sequential:
    modules: list[torch.nn.Module] = []
    arrays = zip(problem.weights, problem.biases, strict=True)
    flat = len(problem.input_shape) == 1
    for layer in problem.layers:
        if isinstance(layer, Pool):
            relu = modules.pop()
            modules += [torch.nn.MaxPool2d(2), relu]
            continue
        weight, bias = map(torch.from_numpy, next(arrays))
        if isinstance(layer, Conv):
            module: torch.nn.Module = torch.nn.Conv2d(weight.shape[0], layer.channels, layer.kernel)
            weight = weight.permute(_TO_TORCH)
        else:
            assert isinstance(layer, Dense)
            modules += [] if flat else [torch.nn.Flatten()]
            flat = True
            module, weight = torch.nn.Linear(*weight.shape), weight.T
        with torch.no_grad():
            module.weight.copy_(weight)
            module.bias.copy_(bias)
        modules += [module, torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1])
    return model.to(memory_format=torch.channels_last) if channels_last else model


def _inputs(problem: Problem) -> torch.Tensor:
    return torch.from_numpy(problem.scaled).view(-1, *problem.input_shape)


def _n_frozen(model: torch.nn.Sequential, problem: Problem) -> int:
    """Return the number of modules before the first one that is trained."""
    weighted = [number for number, module in enumerate(model) if hasattr(module, "weight")]
    return weighted[problem.case.frozen]


class epoch:
    """`run(order, rate)` trains for one epoch."""

    def __init__(
        self,
        problem: Problem,
        threads: int,
        compiled: bool = False,
        channels_last: bool = False,
        on_features: bool = False,
    ) -> None:
        torch.set_num_threads(threads)
        self._images, self._labels = _inputs(problem), torch.from_numpy(problem.labels)
        self._batch_size = problem.batch_size
        self._all = self._model = _model(problem, channels_last)
        front = self._all[: _n_frozen(self._all, problem)].requires_grad_(False)
        self._parameters = [parameter for parameter in self._all.parameters() if parameter.requires_grad]
        if on_features:
            self._model = self._all[len(front) :]
            self._images = torch.cat([front(images) for images in self._images.split(1000)])
        self._velocities = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._betas, self._steps, self._smoothing = problem.case.betas, 0, problem.case.smoothing
        self._update = getattr(self, f"_{problem.case.optimizer}")
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=problem.case.learning_rate, betas=self._betas, fused=True
        )
        self._loss = torch.compile(self._loss_of, dynamic=False) if compiled else self._loss_of

    def _loss_of(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(self._model(images), labels, label_smoothing=self._smoothing)

    def __call__(self, order: np.ndarray | None, rate: float) -> float:
        """Train for one epoch and return its mean loss."""
        batches = [None] if order is None else torch.from_numpy(order).split(self._batch_size)
        losses = []
        for rows in batches:
            images = self._images if rows is None else self._images.index_select(0, rows)
            labels = self._labels if rows is None else self._labels.index_select(0, rows)
            loss = self._loss(images, labels)
            gradients = torch.autograd.grad(loss, self._parameters)
            with torch.no_grad():
                self._update(gradients, rate)
            losses.append(loss.detach())
        lengths = [len(self._labels) if rows is None else len(rows) for rows in batches]
        return float(np.average(torch.stack(losses).numpy(), weights=lengths))

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the trained weights and biases."""
        arrays = [parameter.detach().numpy() for parameter in self._all.parameters()]
        weights = [array.transpose(_FROM_TORCH if array.ndim == 4 else None).copy() for array in arrays[::2]]
        return weights, arrays[1::2]

    # These list operations are those of torch.optim's `foreach` option. Calling them directly is faster than SGD.step.
    def _sgd(self, gradients: tuple[torch.Tensor, ...], rate: float) -> None:
        torch._foreach_add_(self._parameters, gradients, alpha=-rate)

    def _momentum(self, gradients: tuple[torch.Tensor, ...], rate: float) -> None:
        torch._foreach_mul_(self._velocities, 0.9)
        torch._foreach_add_(self._velocities, gradients, alpha=-rate)
        torch._foreach_add_(self._parameters, self._velocities)

    def _adam(self, gradients: tuple[torch.Tensor, ...], rate: float) -> None:
        # PyTorch adds epsilon to the corrected moment, the other contenders to the moment itself. This adds the same.
        self._steps += 1
        epsilon = 1e-8 / np.sqrt(1 - self._betas[1] ** self._steps)
        self._optimizer.param_groups[0].update(lr=rate, eps=float(epsilon))
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()


def predict(
    problem: Problem, threads: int, compiled: bool = False, channels_last: bool = False
) -> Callable[[], np.ndarray]:
    """Return a callable that computes the softmax of the model's output, in inference mode."""
    torch.set_num_threads(threads)
    model, images = _model(problem, channels_last), _inputs(problem)

    def forward(images: torch.Tensor) -> torch.Tensor:
        return torch.softmax(model(images), 1)

    function = torch.compile(forward, dynamic=False) if compiled else forward

    @torch.inference_mode()
    def run() -> np.ndarray:
        return function(images).numpy()

    return run


def product(problem: Problem, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that computes one matrix product into a preallocated tensor."""
    torch.set_num_threads(threads)
    left, right = (torch.from_numpy(factor) for factor in problem.factors)
    out = torch.empty(len(left), right.shape[1])
    array = out.numpy()

    def run() -> np.ndarray:
        torch.mm(left, right, out=out)
        return array

    return run


def products(problem: Problem, threads: int) -> Callable[[np.ndarray | None, float], float]:
    """Return a callable that computes only the first layer's matrix products of an epoch.

    Each step computes two products: the forward pass and the weight gradient. All steps use the same batch, so no data
    are gathered.
    """
    torch.set_num_threads(threads)
    batch, weight = torch.from_numpy(problem.scaled[: problem.batch_size].copy()), torch.from_numpy(problem.weights[0])
    out, dweight = torch.empty(len(batch), weight.shape[1]), torch.empty_like(weight)
    steps = -(-len(problem.scaled) // problem.batch_size)

    @torch.inference_mode()
    def run(order: np.ndarray | None, rate: float) -> float:
        for _ in range(steps):
            torch.mm(batch, weight, out=out)
            torch.mm(batch.T, out, out=dweight)
        return float("nan")

    return run
