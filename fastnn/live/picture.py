"""What the page shows of a run, as values that JSON can store: its curves, weights, mistakes and diagnosis.

Pictures are made in the threads of the server, from moments that do not change, so that training does not wait for
them. Dimensions: N validation samples, C classes, D inputs, H units or filters of the first layer.
"""

import math
import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.evaluation import mistakes
from fastnn.evaluation.evaluate import evaluate_logits
from fastnn.evaluation.metrics import confusion
from fastnn.explanation.diagnosis import diagnose
from fastnn.live.run import ENDED, PAUSED, LiveRun, Moment
from fastnn.models.model import Model, class_probabilities
from fastnn.network import Network
from fastnn.network.weight_pictures import weight_pictures
from fastnn.training.history import EpochRecord, History
from fastnn.training.result import TrainingResult

# A curve has at most this many points. When it has more, every second one is left out.
MOST_POINTS = 1000
# The first layer is shown by up to this many weights, and up to this many units.
MOST_WEIGHTS, MOST_UNITS = 2**16, 64
MOST_MISTAKES = 12
# The diagnosis of a run that goes on looks at this many training samples.
DIAGNOSED_SAMPLES = 2000
# While a run goes on, its mistakes and its diagnosis may be this many seconds old. Training waits for the core on which
# they are made, so each takes less than 1 % of it.
SECONDS_BETWEEN_MISTAKES, SECONDS_BETWEEN_DIAGNOSES = 0.4, 3.0


def plain(value: float) -> float | None:
    """Return a number for JSON, which has none that are not finite."""
    return float(value) if math.isfinite(value) else None


class Curve:
    """The metrics of some epochs of a run: of all, of every second, every fourth, ... as their number grows.

    Attributes
    ----------
    points : list of (epoch, loss, accuracy, validation loss, validation accuracy)
    generation : int
        How often points were left out. Whoever has points of an earlier generation needs all of them again.
    """

    def __init__(self) -> None:
        self.points: list[tuple[float | None, ...]] = []
        self.generation, self._seen, self._every = 0, 0, 1

    def extend(self, history: History, n_epochs: int) -> None:
        """Add the epochs of a history up to the one with this number."""
        for number in range(self._seen, n_epochs):
            if (number + 1) % self._every == 0 or number == 0:
                self.points.append(_point(history[number]))
            if len(self.points) > MOST_POINTS:
                self._every *= 2
                self.generation += 1
                self.points = [each for each in self.points if each[0] == 1 or not cast(int, each[0]) % self._every]
        self._seen = n_epochs


def _point(record: EpochRecord) -> tuple[float | None, ...]:
    values = record.loss, record.accuracy, record.validation_loss, record.validation_accuracy
    return (record.epoch, *map(plain, values))


class Seen(NamedTuple):
    """What a browser has of a curve."""

    run: int = -1
    generation: int = -1
    points: int = 0


class Pictures:
    """Makes the pictures of one run. Work that several browsers ask for at the same time is done once.

    Parameters
    ----------
    live : LiveRun
    number : int
        A number that no other run of the page has.
    """

    def __init__(self, live: LiveRun, number: int = 0) -> None:
        self.live, self.number = live, number
        self._lock = threading.Lock()
        self._curve = Curve()
        self._picture: tuple[int, dict[str, Any]] | None = None
        self._judged: tuple[Any, dict[str, Any]] = None, {}
        self._findings: tuple[Any, list[str]] = None, []
        self._judged_at = self._diagnosed_at = -math.inf
        self._digest = self._validation_digest = ""
        self._model: Model | None = None

    def of_now(self, seen: Seen) -> tuple[dict[str, Any], Seen]:
        """Return the picture of the run as it is now, with the part of the curve that is new, and what is seen then."""
        with self._lock:
            if self._picture is None or self._picture[0] != self.live.version:
                version = self.live.version
                self._picture = version, self._make(self.live.moment)
            curve = self._curve
            start = seen.points if (seen.run, seen.generation) == (self.number, curve.generation) else 0
            picture = {**self._picture[1], "curve": {"start": start, "points": curve.points[start:]}}
            return picture, Seen(self.number, curve.generation, len(curve.points))

    def model(self) -> Model | None:
        """Return the newest network as a model of the training data; None before training."""
        moment = self.live.moment
        if moment.snapshot is None or moment.setup is None:
            return None
        network = moment.snapshot.network
        self._model = self._model or Model.for_data(network, moment.setup.data)
        return replace(self._model, network=network)

    def _make(self, moment: Moment) -> dict[str, Any]:
        history = _history(moment)
        if history is not None:
            self._curve.extend(history, moment.n_epochs)
        found: dict[str, Any] = {
            "number": self.number,
            "status": moment.status,
            "paused": self.live.is_paused,
            "stopping": self.live.is_stopping,
            "pace": self.live.batches_per_second,
            "epoch": moment.epoch,
            "batch": moment.batch,
            "batches": moment.batches,
            "loss": plain(moment.loss),
            "accuracy": plain(moment.accuracy),
            "last": None,
        }
        if history is not None and moment.n_epochs:
            last = history[moment.n_epochs - 1]
            found["last"] = {name: plain(value) for name, value in vars(last).items()}
            n_samples = 0 if moment.end is None else moment.end.n_samples
            found["samples_per_second"] = plain(n_samples / max(last.seconds, 1e-9))
        if moment.setup is not None and moment.snapshot is not None:
            network = moment.snapshot.network
            found |= self._about(moment, network)
            found["weights"] = first_layer(network, moment.setup.data.image_shape)
            found |= self._judge(moment, network)
            found["diagnosis"] = self._diagnose(moment, network, history or History())
        if moment.result is not None:
            found["stopped"] = moment.result.stopped
            self._digest = self._digest or moment.result.digest()
            found["digest"] = self._digest
        return found

    def _about(self, moment: Moment, network: Network) -> dict[str, Any]:
        """Return what the page says about the network, the data and the settings."""
        assert moment.setup is not None
        data, config, validation = moment.setup.data, moment.setup.config, moment.setup.validation
        rate = config.learning_rate
        if validation is not None and not self._validation_digest:
            self._validation_digest = validation.digest()
        return {
            "network": str(network),
            "backend": moment.setup.backend,
            "epochs": moment.end.epochs if moment.end is not None else config.epochs,
            "learning_rate": rate if isinstance(rate, float) else None,
            "data": data.name,
            "n_samples": len(data),
            "n_validation": 0 if validation is None else len(validation),
            "validation_digest": self._validation_digest,  # a sample can be asked of all runs that have it
            "image_shape": data.image_shape,
            "n_inputs": network.n_inputs,
            "classes": class_texts(network, data),
            "layers": [
                {"name": layer.unit_name(shape), "units": _n_units(layer, shape)}
                for layer, shape in zip(network.layers, network.shapes[1:], strict=True)
            ],
        }

    def _judge(self, moment: Moment, network: Network) -> dict[str, Any]:
        """Return the confusion matrix and the worst mistakes on the validation data, empty without classes or data.

        They are those of the last epoch, or of one shortly before; of a run that is paused within an epoch, those of
        its network now.
        """
        setup, end, result = moment.setup, moment.end, moment.result
        assert setup is not None
        validation = setup.validation
        if validation is None or validation.labels is None or validation.labels.ndim != 1 or not len(validation):
            return {}
        logits, key = None, (moment.epoch, moment.batch, moment.status)
        if result is not None:
            is_last = end is not None and end.record.epoch == result.best_epoch
        else:
            is_last = end is not None and (moment.status != PAUSED or moment.batch in (0, moment.batches))
        if is_last:
            assert end is not None
            logits, key = end.validation_logits, (end.record.epoch, 0, "")
        may_be_old = moment.status not in (PAUSED, ENDED)
        soon = time.monotonic() - self._judged_at < SECONDS_BETWEEN_MISTAKES
        if key == self._judged[0] or (may_be_old and (logits is None or soon)):
            return self._judged[1]
        if logits is None:
            logits = evaluate_logits(network, validation, setup.backend, setup.config.threads).logits
        outputs = network.loss.outputs(logits)
        proba = class_probabilities(outputs, len(class_texts(network, setup.data)), is_multilabel=False)
        counts = confusion(validation.labels, proba.argmax(axis=1), proba.shape[1])
        found = {"confusion": counts.tolist(), "mistakes": _worst(validation, proba)}
        self._judged, self._judged_at = (key, found), time.monotonic()
        return found

    def _diagnose(self, moment: Moment, network: Network, history: History) -> list[str]:
        """Return the findings, as the command prints them."""
        assert moment.setup is not None
        if not moment.n_epochs and moment.result is None:
            return []
        key = moment.n_epochs, moment.status == ENDED
        soon = time.monotonic() - self._diagnosed_at < SECONDS_BETWEEN_DIAGNOSES
        if key == self._findings[0] or (soon and moment.status not in (PAUSED, ENDED)):
            return self._findings[1]
        data, config = moment.setup.data, moment.setup.config
        if moment.result is not None:
            result = moment.result
        else:
            data = data.take(slice(DIAGNOSED_SAMPLES))
            records = History([history[k] for k in range(moment.n_epochs)])
            result = TrainingResult(network, records, moment.n_epochs, "running", moment.setup.backend, config=config)
        counts = self._judged[1].get("confusion") if self._judged[1] else None
        findings = [str(each) for each in diagnose(result, network, data, counts, for_command=True)]
        self._findings, self._diagnosed_at = (key, findings), time.monotonic()
        return findings


def _history(moment: Moment) -> History | None:
    if moment.result is not None:
        return moment.result.history
    return None if moment.end is None else moment.end.history


def _n_units(layer: Any, shape: Sequence[int]) -> int:
    return int(shape[0]) if len(shape) else 0


def class_texts(network: Network, data: Dataset) -> list[str]:
    """Return the names of the classes; none for outputs that are numbers."""
    counts = network.loss.class_counts(network.n_outputs)
    if not counts:
        return []
    return [str(each) for each in (data.classes if data.classes is not None else range(counts[0]))]


def first_layer(network: Network, image_shape: tuple[int, int] | None) -> dict[str, Any] | None:
    """Return the weights of the first units or filters of the first layer that has a matrix of weights, or None.

    Returns
    -------
    dict
        "kind" : "units", "filters" or "matrix" (one row per unit, for inputs that are no image)
        "shape" : [images, height, width]
        "count" : the number of units or filters there are
        "data" : float16 numbers, in base64
    """
    weight = next((each for each in network.weights if each.ndim > 1), None)
    if weight is None:
        return None
    count = weight.shape[-1]
    kind, images = weight_pictures(weight, image_shape)
    if kind == "matrix":
        images = images[None, :MOST_UNITS, : MOST_WEIGHTS // MOST_UNITS]
    else:  # the channels of a filter stand below each other
        images = images[: max(1, min(MOST_UNITS, MOST_WEIGHTS // images[0].size))]
        images = images.reshape(len(images), -1, images.shape[-1])
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(images, "<f2")
    return {"kind": kind, "shape": list(numbers.shape), "count": count, "data": b64encode(numbers.data).decode()}


def _worst(data: Dataset, proba: np.ndarray) -> list[dict[str, Any]]:
    """Return the worst mistakes: what was predicted how surely, and the image as bytes from background to ink."""
    assert data.labels is not None
    found = []
    for row in mistakes(data.labels, proba)[:MOST_MISTAKES].tolist():
        predicted, true = int(proba[row].argmax()), int(data.labels[row])
        mistake = {
            "row": row,
            "true": true,
            "predicted": predicted,
            "probability": float(proba[row, predicted]),
            "of_true": float(proba[row, true]),
        }
        if data.image_shape is not None and not is_sparse(data.images):
            pixels = data.images[row].astype(float)
            low, high = min(0.0, float(pixels.min())), max(data.pixel_max, float(pixels.max()))
            mistake["image"] = b64encode(np.rint((pixels - low) * (255 / (high - low))).astype(np.uint8).data).decode()
        found.append(mistake)
    return found
