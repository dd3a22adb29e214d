"""What the script of the replay needs: the snapshots of a run as plain values."""

from base64 import b64encode
from typing import Any

import numpy as np

from fastnn.files.snapshot_file import METRICS, Snapshots

SCRIPT = "replay.js"
# The colour scale ends at this percentile of the magnitudes, as that of `plots.WeightsDisplay`.
_SHOWN = 99.5


def replay_content(snapshots: Snapshots) -> dict[str, Any]:
    """Return the snapshots as replay.js takes them. Weights are int8 times a scale for each epoch."""
    count, height, width = snapshots.weights.shape[1:]
    limit = float(np.percentile(np.abs(snapshots.weights), _SHOWN))
    return {
        "kind": snapshots.kind,
        "count": count,
        "height": height,
        "width": width,
        "limit": limit or 1.0,
        "epochs": [_epoch(*each) for each in zip(snapshots.epochs, snapshots.weights, snapshots.metrics, strict=True)],
    }


def _epoch(number: int, weights: np.ndarray, metrics: np.ndarray) -> dict[str, Any]:
    scale = float(np.abs(weights).max()) / 127 or 1.0
    values = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    named = dict(zip(METRICS, (float(each) if np.isfinite(each) else None for each in metrics), strict=True))
    return {
        "number": int(number),
        "loss": named["loss"],
        "validationLoss": named["validation_loss"],
        "validationAccuracy": named["validation_accuracy"],
        "scale": scale,
        "data": b64encode(values.tobytes()).decode(),
    }
