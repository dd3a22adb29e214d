"""The plan of a run: defaults for data of one's own, classes without gaps, targets, dark images."""

import numpy as np
import pytest

import fastnn
from fastnn import DataError, Dataset, get_backend
from fastnn.datasets.splits import Splits, split
from fastnn.network.targets import TargetScale
from fastnn.runs.plan import default_config, make_plan


def _splits(data):
    return split(data, None, 0.25, seed=0)


def _data(labels, images=None, **fields):
    rng = np.random.default_rng(0)
    return Dataset(rng.normal(size=(len(labels), 3)) if images is None else images, labels, **fields)


def test_classes_have_no_gaps_and_include_those_of_all_parts():
    train, test = _data([5, 9, 5, 9] * 5), _data([7, 9])
    plan = make_plan(Splits(train, train, test), (4,), default_config(20), seed=0)
    assert [part.classes for part in plan.splits] == [(5, 7, 9)] * 3
    assert plan.splits.test.labels.tolist() == [1, 2]
    assert plan.network.n_outputs == 3
    assert plan.model(plan.network).classes == (5, 7, 9)


def test_data_without_labels_are_refused():
    unlabelled = Dataset(np.zeros((8, 2)))
    with pytest.raises(DataError, match="has no labels, expected some"):
        make_plan(Splits(unlabelled, unlabelled, unlabelled), (4,), default_config(8))


@pytest.mark.parametrize(("images", "shape", "expected"), [
    (np.float32, None, True), (np.uint8, None, False), (np.float32, (1, 3), False),
])  # fmt: skip
def test_tables_of_fractions_are_standardised_unless_told(images, shape, expected):
    data = _data([0, 1] * 10, np.arange(60).reshape(20, 3).astype(images), image_shape=shape, pixel_max=60)
    config = default_config(15)
    assert make_plan(_splits(data), (4,), config).standardize == expected
    assert make_plan(_splits(data), (4,), config, standardize=not expected).standardize != expected


@pytest.mark.parametrize(("low", "high"), [(255, 0), (1.0, 0.0), (-1.0, 1.0)])
def test_the_background_of_images_becomes_0(mnist_small, low, high):
    pixels, labels = mnist_small
    images = (low + pixels[:100] * ((high - low) / 255)).astype(np.uint8 if low == 255 else np.float32)
    data = Dataset(images.copy(), labels[:100].copy(), 255 if low == 255 else 1, (28, 28))
    network = make_plan(_splits(data), (4,), default_config(75)).network
    found = network.standardization.apply(images, np.float64)
    np.testing.assert_allclose(np.abs(found), pixels[:100] / 255, atol=1e-7)


def test_a_trained_regression_predicts_the_numbers_of_the_data():
    data = _data(np.linspace(200, 300, 40) + 0.5)
    plan = make_plan(_splits(data), (4,), default_config(30), seed=0, dtype=np.float64)
    training = plan.for_training(plan.splits.train)
    assert abs(training.labels.mean()) < 1e-12
    assert training.labels.std() == pytest.approx(1)
    engine = get_backend("numpy")
    standardised = engine.predict_proba(plan.network, data.images)
    raw = plan.model(plan.network).predict(data.images, backend="numpy")
    scale = TargetScale.fit(plan.splits.train.labels)
    np.testing.assert_allclose(raw, standardised[:, 0] * scale.deviation + scale.mean, rtol=1e-12)
    back = engine.predict_proba(scale.removed(scale.taken_up(plan.network)), data.images)
    np.testing.assert_allclose(back, standardised, rtol=1e-12)


def test_the_default_rate_belongs_to_the_default_optimizer():
    assert default_config(100).learning_rate == 0.003
    assert default_config(100, optimizer="sgd").learning_rate is None
    assert default_config(100, epochs=3).learning_rate == 0.003
    assert default_config(10**6).epochs == 20
    assert default_config(10).epochs == 1000


def test_held_out_samples_are_named():
    splits = fastnn.get_recipe("full-batch").load(0)
    assert splits.test.name == "MNIST train (held out)"
