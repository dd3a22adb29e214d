"""The advice of `diagnose`, followed to the letter, leads from a bad start to a good run in at most three steps."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_wine

import fastnn
from fastnn import Dataset, Network
from fastnn.evaluation import confusion

MAX_STEPS = 3
# Pairs of advice that contradict each other if one follows the other in the same chain of runs.
OPPOSITES = {"learning rate too high", "learning rate too low"}


class Plan:
    """A run that can be changed as a finding suggests: data, network and settings."""

    def __init__(self, data, hidden=(32, 32), activation="relu", **settings):
        self.training, self.held_out = fastnn.hold_out(data, 0.25)
        self.hidden, self.activation, self.sample_weight = hidden, activation, None
        self.settings = {"epochs": 20, "batch_size": 32, "backend": "numba", **settings}

    def run(self):
        """Train and return the findings and the accuracy on the held-out data."""
        network = Network.for_data(self.training, self.hidden, activation=self.activation)
        try:
            result = fastnn.train(
                network, self.training, validation=self.held_out, sample_weight=self.sample_weight, **self.settings
            )
        except fastnn.DivergenceError as error:
            result = error.result
        logits = fastnn.get_backend("numba").predict_logits(result.network, self.held_out.images)
        labels = self.held_out.labels
        counts = confusion(labels, logits.argmax(axis=1), network.n_outputs)
        recalls = np.diag(counts) / np.maximum(1, counts.sum(axis=1))
        return fastnn.diagnose(result, data=self.training, confusion=counts), recalls

    def follow(self, suggested):
        """Change the plan as `Finding.settings` says."""
        suggested = dict(suggested)
        self.hidden = tuple(suggested.pop("hidden", self.hidden))
        self.activation = suggested.pop("activation", self.activation)
        if "pixel_max" in suggested:
            scale = suggested.pop("pixel_max")
            self.training, self.held_out = (replace(each, pixel_max=scale) for each in (self.training, self.held_out))
        if suggested.pop("standardize", False):
            mean, deviation = self.training.images.mean(axis=0), self.training.images.std(axis=0)
            self.training, self.held_out = (
                replace(each, images=(each.images - mean) / deviation) for each in (self.training, self.held_out)
            )
        if suggested.pop("sample_weight", None) == "balanced":
            self.sample_weight = 1 / np.bincount(self.training.labels)[self.training.labels]
            self.sample_weight /= self.sample_weight.mean()
        self.settings |= suggested


def digits(change=None):
    data = fastnn.load_digits()
    return data if change is None else change(data)


def bits(data):
    """Pixels of 0 and 1 as bytes that claim to reach 255."""
    return Dataset((data.images > 7).astype(np.uint8), data.labels, 255.0)


def huge(data):
    return Dataset(data.images.astype(np.float32) * 1000, data.labels)


def noisy(data):
    """300 digits, few enough to memorise, a fifth of them with random labels."""
    rng = np.random.default_rng(0)
    labels = data.labels[:400].copy()
    wrong = rng.random(400) < 0.2
    labels[wrong] = rng.integers(0, 10, wrong.sum())
    return Dataset(data.images[:400], labels, 16.0)


def imbalanced(data):
    """Two digits that look alike, with 12 times as many of the first, and clouded images."""
    rng = np.random.default_rng(0)
    eights, threes = np.flatnonzero(data.labels == 8), np.flatnonzero(data.labels == 3)
    rows = np.concatenate([np.repeat(eights, 3), threes[:44]])
    images = data.images[rows] / 16 + rng.normal(0, 0.7, (len(rows), 64))
    return Dataset(images.astype(np.float32), (data.labels[rows] == 3).astype(np.int64))


def wine():
    table = load_wine()
    return Dataset(table.data.astype(np.float32), table.target.astype(np.int64))


# The start, the first finding, and the lowest accuracy at the end (the mean recall of the classes).
STARTS = {
    "sgd, rate too high": (lambda: Plan(digits(), learning_rate=1.5), "learning rate too high", 0.9),
    "sgd, diverges": (lambda: Plan(digits(), learning_rate=1e9), "learning rate too high", 0.9),
    "sgd, rate too low": (lambda: Plan(digits(), learning_rate=1e-5), "learning rate too low", 0.9),
    "momentum, rate too high": (
        lambda: Plan(digits(), optimizer="momentum", learning_rate=0.8), "learning rate too high", 0.9,
    ),
    "momentum, rate too low": (
        lambda: Plan(digits(), optimizer="momentum", learning_rate=1e-6), "learning rate too low", 0.9,
    ),
    "adam, rate too high": (lambda: Plan(digits(), optimizer="adam", learning_rate=0.5), "learning rate too high", 0.9),
    "adam, rate a little lower": (
        lambda: Plan(digits(), optimizer="adam", learning_rate=0.2), "learning rate too high", 0.9,
    ),
    "adam, rate too low": (lambda: Plan(digits(), optimizer="adam", learning_rate=1e-6), "learning rate too low", 0.9),
    "tiny inputs": (lambda: Plan(digits(bits)), "inputs too small", 0.85),
    "huge inputs": (lambda: Plan(digits(huge)), "inputs too large", 0.9),
    "columns of different sizes": (lambda: Plan(wine(), (16,), epochs=60), "inputs too large", 0.9),
    "too few epochs": (lambda: Plan(digits(), epochs=3, learning_rate=0.03), "unfinished", 0.9),
    "too few epochs, full batch": (
        lambda: Plan(digits(), (32,), batch_size=None, epochs=10, schedule="cosine"), "unfinished", 0.85,
    ),
    "too deep": (lambda: Plan(digits(), (8,) * 16), "network too deep", 0.85),
    "logistic, deep": (lambda: Plan(digits(), (16,) * 4, "logistic"), "network too deep", 0.85),
    "logistic, default rate": (lambda: Plan(digits(), (32, 32), "logistic"), "unfinished", 0.85),
    "logistic, rate too low": (
        lambda: Plan(digits(), (32, 32), "logistic", learning_rate=0.005), "learning rate too low", 0.85,
    ),
    "overfitting": (lambda: Plan(digits(noisy), (64, 64), epochs=150, learning_rate=0.1), "overfitting", 0.5),
    "imbalance": (lambda: Plan(imbalanced(fastnn.load_digits()), (), learning_rate=0.02), "class imbalance", 0.7),
}  # fmt: skip


@pytest.mark.parametrize("start", STARTS)
def test_advice_that_is_followed_converges(start):
    make, first, accuracy = STARTS[start]
    plan, causes = make(), []
    for _ in range(MAX_STEPS + 1):
        findings, recalls = plan.run()
        if not findings:
            break
        causes.append(findings[0].name)
        assert findings[0].settings, findings
        plan.follow(findings[0].settings)
    assert findings == [], causes
    assert causes[0] == first
    assert not set(causes) >= OPPOSITES
    assert recalls.mean() >= accuracy, causes
