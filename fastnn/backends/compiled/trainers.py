"""Which trainer of the Numba backend trains a network: fused epochs where kernels cover it, else layer by layer."""

from typing import Any

from fastnn.backends import layerwise, layerwise_slices
from fastnn.backends.arguments import TrainingData, check_data, check_run
from fastnn.backends.base import LossAndGradients, TrainerState
from fastnn.backends.clipping import ClippingTrainer
from fastnn.backends.compiled import operations
from fastnn.backends.compiled.fused import Trainer
from fastnn.backends.compiled.image_plan import split_images
from fastnn.backends.compiled.images import ImageTrainer
from fastnn.backends.compiled.slices import FusedSlices
from fastnn.backends.slices import SlicedTrainer, SliceEngine
from fastnn.kernels.ops.activations import ACTIVATION_CODES
from fastnn.kernels.ops.losses import OUTPUT_CODES
from fastnn.network import Network
from fastnn.optim.config import LossConfig, TrainingConfig
from fastnn.optim.optimizers import LBFGS, SGD, Adam, AdamW, Optimizer


def fused_trainer(network: Network, config: LossConfig | None = None) -> type[Trainer] | None:
    """Return the trainer whose kernels cover the training of a network; None if no kernels do.

    They cover dense layers, and convolutions and pools before these, whose activations and output have kernels; and the
    optimizers SGD, Adam, AdamW and L-BFGS, without gradient clipping: the kernels update a layer before they know the
    gradients of all.
    """
    rule = config.update_rule if isinstance(config, TrainingConfig) else LBFGS()
    if network.output not in OUTPUT_CODES or not have_kernels(network):
        return None
    if type(rule) not in (SGD, Adam, AdamW, LBFGS) or (isinstance(config, TrainingConfig) and config.clips):
        return None
    if network.is_dense:
        return Trainer
    split = split_images(network)
    return ImageTrainer if split is not None and split[1] < len(network.layers) else None


def have_kernels(network: Network) -> bool:
    """Return whether the activations of all layers have kernels."""
    return all(layer.activation in ACTIVATION_CODES for layer in network.layers)


def loss_and_gradients(
    network: Network, inp: Any, targets: Any, *, sample_weight: Any = None, epoch: int = 0, **settings: Any
) -> LossAndGradients:
    """Return loss and gradients of one batch: a training step that keeps the gradients and updates nothing."""
    config = LossConfig.from_settings(settings)
    make = fused_trainer(network, config)
    if make is None:
        return layerwise.loss_and_gradients(operations, network, inp, targets, sample_weight, epoch, settings)
    data = check_data(network, inp, targets, sample_weight, config)
    single = make(network, data, config, None, threads=1, one_pass=True)
    single.epoch = epoch
    return single.loss_and_gradients()


def trainer(
    network: Network,
    images: Any,
    targets: Any,
    optimizer: str | Optimizer = "sgd",
    *,
    sample_weight: Any = None,
    state: TrainerState | None = None,
    **settings: Any,
) -> Trainer | layerwise.Trainer | SlicedTrainer:
    """Check the data and the settings, and return a trainer."""
    data, config = check_run(network, images, targets, sample_weight, {"optimizer": optimizer, **settings})
    return new_trainer(network, data, config, state)


def new_trainer(
    network: Network, data: TrainingData, config: TrainingConfig, state: TrainerState | None = None
) -> Trainer | layerwise.Trainer | SlicedTrainer:
    """Return a trainer: fused if the kernels cover the run, else layer by layer; with clipping, fused gradients.

    Equal arguments give equal bits, for any number of threads.
    """
    if config.slices is not None:
        return SlicedTrainer(slice_engine(network, data, config), network, data, config, state)
    ops = operations.with_threads(config.threads)
    if config.clips:
        make = fused_trainer(network, config.replace(clip_norm=None, clip_value=None))
        if make is not None:
            fused = make  # mypy does not narrow `make` inside the function below
            return ClippingTrainer(
                lambda data: fused(network, data, config, None, config.threads), ops, network, data, config, state
            )
    make = fused_trainer(network, config)
    if make is None:
        return layerwise.Trainer(ops, network, data, config, state)
    assert isinstance(config.update_rule, Optimizer)
    return make(network, data, config, config.update_rule, config.threads, state)


def slice_engine(network: Network, data: TrainingData, config: TrainingConfig) -> SliceEngine:
    """Return what computes the gradients of slices: the fused kernels if they cover the run, else the operations."""
    make = fused_trainer(network, config.replace(clip_norm=None, clip_value=None))
    if make is None:
        return layerwise_slices.LayerwiseSlices(operations.with_threads(config.threads), network, data, config)
    return FusedSlices(make, network, data, config)
