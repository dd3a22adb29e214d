"""Each byte of a file of fastnn's own changed, and each length cut: refused, or the same content; never another one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fastnn
from fastnn.errors import DataError
from tests.faults.formats import GOLDEN, checkpoint_bytes
from tests.parity import assert_same_bits

pytestmark = pytest.mark.faults


class OwnFile(NamedTuple):
    """A small file, the function that loads it, and one that asserts that two contents are the same."""

    data: bytes
    load: Callable[[Path], Any]
    assert_same: Callable[[Any, Any], None]


def assert_same_state(one, other):
    """Assert that two checkpoints hold the same state, to the bit."""
    for name in ("network", "kept"):
        _assert_same_network(getattr(one, name), getattr(other, name))
    assert_same_bits(*([a for slot in each.trainer.slots for half in slot for a in half] for each in (one, other)))
    assert_same_bits([one.history, one.order], [other.history, other.order], "history and order")
    assert one.trainer._replace(slots=()) == other.trainer._replace(slots=())
    for name in ("best_epoch", "first", "seconds", "stopped", "settings", "backend", "data", "versions"):
        assert getattr(one, name) == getattr(other, name), name
    assert repr(one.parts) == repr(other.parts)


def _assert_same_network(one, other):
    for name in ("weights", "biases", "statistics"):
        assert_same_bits(getattr(one, name), getattr(other, name), name)
    for name in ("layers", "shapes", "activation", "input_scale", "standardization", "output"):
        assert getattr(one, name) == getattr(other, name), name


def _assert_same_model(one, other):
    assert type(one) is type(other)
    for network, expected in zip(one.networks, other.networks, strict=True):
        _assert_same_network(network, expected)
    for name in ("classes", "image_shape", "feature_names", "unknown", "pixels", "metadata"):
        assert getattr(one, name) == getattr(other, name), name


# Another kind of file gets a row here.
FILES = {
    path.stem: OwnFile(path.read_bytes(), fastnn.load, _assert_same_model)
    for path in sorted(GOLDEN.glob("*.safetensors"))
} | {
    "checkpoint": OwnFile(checkpoint_bytes(), fastnn.load_checkpoint, assert_same_state),
    "checkpoint of images": OwnFile(checkpoint_bytes(network="images"), fastnn.load_checkpoint, assert_same_state),
}
USUAL = ("v4-standardised", "v5-images")  # always tried at every byte; of the others, some bytes are


def _is_refused(path, data, file, intact):
    """Return whether the changed file is refused; if it is not, its content must be that of the intact one."""
    path.write_bytes(data)
    try:
        found = file.load(path)
    except DataError:
        return True
    file.assert_same(found, intact)
    return False


@pytest.mark.parametrize("name", FILES)
def test_every_changed_byte_and_every_cut_is_refused_or_changes_nothing(faults, memory_folder, name):
    file, path = FILES[name], memory_folder / "file.safetensors"
    path.write_bytes(file.data)
    intact, data = file.load(path), file.data
    accepted, places = set(), range(len(data))
    if name not in USUAL:
        cases = faults.cases(400 if name.startswith("checkpoint") else 20)
        places = faults.rng(name).sample(places, min(len(data), len(cases)))
    for at in places:
        byte = data[at]
        for changed in {byte ^ 1 << bit for bit in range(8)} | {255, 0} - {byte}:
            if not _is_refused(path, data[:at] + bytes([changed]) + data[at + 1 :], file, intact):
                accepted.add(at)
        faults.counts["bytes of model and checkpoint files changed"] += 1
    for length in places:
        assert _is_refused(path, data[:length], file, intact), f"cut to {length} bytes"
        faults.counts["cuts of model and checkpoint files"] += 1
    # JSON ignores white space, which surrounds the header's end, and nothing else.
    assert all(data[at : at + 1].isspace() for at in accepted), accepted
