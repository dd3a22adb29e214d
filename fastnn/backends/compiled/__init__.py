"""The Numba backend: lays arrays out for the kernels and calls them."""

from fastnn.backends.compiled.distortion import distort
from fastnn.backends.compiled.full_batch import objective
from fastnn.backends.compiled.fused import Trainer
from fastnn.backends.compiled.images import ImageTrainer
from fastnn.backends.compiled.operations import (
    activate,
    activate_backward,
    avg_pool,
    avg_pool_backward,
    batch_norm,
    batch_norm_backward,
    batch_norm_forward,
    conv_backward,
    conv_forward,
    dense_backward,
    dense_forward,
    logistic_cross_entropy,
    matmul,
    max_pool,
    max_pool_backward,
    mean_loss,
    relu,
    relu_backward,
    softmax,
    softmax_cross_entropy,
    squared_error,
)
from fastnn.backends.compiled.predict import predict_logits, predict_proba
from fastnn.backends.compiled.trainers import fused_trainer, loss_and_gradients, new_trainer, slice_engine, trainer

__all__ = [
    "ImageTrainer", "Trainer", "activate", "activate_backward", "avg_pool", "avg_pool_backward", "batch_norm",
    "batch_norm_backward", "batch_norm_forward", "conv_backward", "conv_forward", "dense_backward", "dense_forward",
    "distort", "fused_trainer", "logistic_cross_entropy", "loss_and_gradients", "matmul", "max_pool",
    "max_pool_backward", "mean_loss", "new_trainer", "objective", "predict_logits", "predict_proba", "relu",
    "relu_backward", "slice_engine", "softmax", "softmax_cross_entropy", "squared_error", "trainer",
]  # fmt: skip
