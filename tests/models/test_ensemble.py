"""An ensemble predicts, evaluates and saves as any other model; its outputs are the mean of those of its networks."""

import copy
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

import fastnn
from fastnn import DataError, Ensemble, Model, Network, SettingsError
from fastnn.evaluation import occlusion
from fastnn.evaluation.evaluate import evaluate_model
from fastnn.network import Conv2D, Dense, MaxPool2D, Standardization
from fastnn.plots import ConfusionDisplay
from tests.files.models import ANSWERS, in_float64, made

RNG = np.random.default_rng(3)
ROWS = RNG.normal(0, 3, (40, 5))
EPS = {"float32": np.finfo(np.float32).eps, "float64": np.finfo(np.float64).eps}


def ensemble_of(kind="softmax", dtype="float32", n=3):
    """Return an ensemble of networks with random weights, the first half as large as the second and so on."""
    models = [made(kind, dtype=dtype) for _ in range(n)]
    return Ensemble.of(
        replace(model, network=model.network.like([w * 0.5**k for w in model.network.weights], model.network.biases))
        for k, model in enumerate(models)
    )


def mean_outputs(ensemble, rows=ROWS):
    """An independent mean, in float64."""
    return np.mean([in_float64(network, rows) for network in ensemble.networks], axis=0)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_outputs_are_the_mean_of_those_of_the_networks(kind, backend, dtype):
    ensemble = ensemble_of(kind, dtype)
    rows, expected = ROWS.astype(dtype), mean_outputs(ensemble, ROWS.astype(dtype))
    limits = {"rtol": 2000 * EPS[dtype], "atol": 200 * EPS[dtype]}  # sums of logits up to 100, as exponents
    if ensemble.classes is None:
        found = ensemble.predict(rows, backend=backend)
        np.testing.assert_allclose(found, expected, **limits)
        assert found.dtype == dtype
        return
    proba = ensemble.predict_proba(rows, backend=backend)
    assert proba.dtype == dtype
    if expected.shape[1] == 1:
        expected = np.hstack([1 - expected, expected]) if len(ensemble.classes) == 2 else np.ones_like(expected)
    np.testing.assert_allclose(proba, expected, **limits)
    labels = ensemble.predict(rows, backend=backend)
    if ensemble.is_multilabel:
        assert (labels == (expected > 0.5)).all()
    else:
        assert labels.tolist() == [ensemble.classes[k] for k in expected.argmax(axis=1)]
    # Copies of one network are that network, within the rounding of a sum of three.
    alike = Ensemble.of([ensemble.members[0]] * 3).predict_proba(rows, backend=backend)
    np.testing.assert_allclose(
        alike, ensemble.members[0].predict_proba(rows, backend=backend), rtol=4 * EPS[dtype], atol=EPS[dtype]
    )


@pytest.mark.parametrize("kind", ["softmax", "binary", "identity", "exp"])
def test_evaluation_has_the_loss_of_the_mean_outputs(kind):
    ensemble, rng = ensemble_of(kind, "float64"), np.random.default_rng(0)
    outputs, n = mean_outputs(ensemble), len(ROWS)
    if kind == "softmax":
        labels = rng.integers(0, 4, n)
        losses, correct = -np.log(outputs[np.arange(n), labels]), outputs.argmax(axis=1) == labels
    elif kind == "binary":
        labels = rng.integers(0, 2, n)
        losses = -np.log(np.where(labels == 1, outputs[:, 0], 1 - outputs[:, 0]))
        correct = (outputs[:, 0] > 0.5) == labels
    else:
        labels = rng.uniform(0.5, 2, (n, 2))
        losses = (
            ((outputs - labels) ** 2).sum(axis=1) / 2
            if kind == "identity"
            else (labels * np.log(labels / outputs) - labels + outputs).sum(axis=1)
        )
        correct = np.full(n, np.nan)
    names = ensemble.classes
    data = fastnn.Dataset(ROWS, labels if names is None else [names[label] for label in labels])
    loss, accuracy = fastnn.evaluate(ensemble, data, backend="numpy")
    assert math.isclose(loss, losses.mean(), rel_tol=1e-9)
    assert accuracy == correct.mean() or (names is None and math.isnan(accuracy))
    scores = evaluate_model(ensemble, data, "numpy")
    assert math.isclose(scores.loss, losses.mean(), rel_tol=1e-9)
    if names is None:
        assert math.isclose(scores.rmse, np.sqrt(((outputs - labels) ** 2).mean()), rel_tol=1e-9)
    else:
        assert (scores.accuracy, np.trace(scores.confusion)) == (correct.mean(), correct.sum())
        np.testing.assert_allclose(scores.proba, ensemble.predict_proba(ROWS), rtol=1e-9, atol=1e-12)
    penalty = np.mean([np.sum([(weight**2).sum() for weight in each.weights]) for each in ensemble.networks])
    with_l2, _ = fastnn.evaluate(ensemble, data, backend="numpy", l2=0.25)
    assert math.isclose(with_l2 - loss, 0.125 * penalty, rel_tol=1e-9)


@pytest.mark.parametrize("output", ["softmax", "logistic", "exp"])
def test_mean_logits_of_extreme_logits_are_finite_or_the_limit(output):
    size = {"softmax": 1e30, "logistic": 1e30, "exp": 80.0}[output]
    logits = [np.array([[size, -size]], np.float32), np.array([[-size, size]], np.float32)]
    loss = Network.initialize((2, 2), output=output).loss
    found = loss.mean_logits(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(loss.outputs(found), np.mean([loss.outputs(each) for each in logits], axis=0), rtol=1e-5)


def test_the_loss_of_an_ensemble_is_at_most_the_mean_of_the_losses():
    data = fastnn.load_digits()
    networks = [Network.for_data(data, (8,), seed=seed) for seed in range(3)]
    models = [fastnn.train(each, data, epochs=3, backend="numpy").network for each in networks]
    members = [Model.for_data(each, data) for each in models]
    loss, _ = fastnn.evaluate(Ensemble.of(members), data, backend="numpy")
    losses = [fastnn.evaluate(each, data, backend="numpy")[0] for each in members]
    assert loss < np.mean(losses)


def test_networks_may_differ_in_layers_and_in_what_they_do_to_inputs(tmp_path):
    images = Network.initialize((1, 4, 4), [Conv2D(2, 3), MaxPool2D(2), Dense(3)], input_scale=1 / 16, seed=1)
    flat = Network.initialize((16, 5, 3), input_scale=Standardization(np.arange(16.0), np.full(16, 0.25)), seed=2)
    rows = RNG.integers(0, 17, (20, 16)).astype(np.uint8)
    ensemble = Ensemble.of(Model(each, ("a", "b", "c"), image_shape=(4, 4)) for each in (images, flat))
    fastnn.save(tmp_path / "m", ensemble)
    loaded = fastnn.load(tmp_path / "m")
    standardised = Network(flat.weights, flat.biases)
    shifted = (rows - np.arange(16.0)) * 0.25
    expected = (in_float64(images, rows) + in_float64(standardised, shifted)) / 2
    for model in (ensemble, loaded):
        np.testing.assert_allclose(model.predict_proba(rows), expected, rtol=1e-4, atol=1e-6)
    assert loaded.summary.startswith("Ensemble of 2: Network(1x4x4 -> ")


def test_a_saved_ensemble_has_its_names_and_threshold(tmp_path):
    ensemble = replace(ensemble_of(), unknown=(0.75, "?"), feature_names=tuple("abcde"))
    fastnn.save(tmp_path / "m", ensemble)
    loaded = fastnn.load(tmp_path / "m")
    assert isinstance(loaded, Ensemble)
    assert (loaded.classes, loaded.unknown, loaded.feature_names) == (ensemble.classes, (0.75, "?"), tuple("abcde"))
    labels = loaded.predict(ROWS.astype(np.float32))
    largest = mean_outputs(ensemble).max(axis=1)
    assert ((labels == "?") == (largest < 0.75)).all()
    assert {"?"} < set(labels)
    fastnn.save(tmp_path / "other", loaded, classes=[1, 2, 3, 4], unknown=(0.5, 0))
    assert fastnn.load(tmp_path / "other").members[2].classes == (1, 2, 3, 4)
    data = fastnn.Dataset(ROWS, np.arange(40) % 4, feature_names=list("vwxyz"))
    fastnn.save(tmp_path / "data", ensemble, data=data)
    assert fastnn.load(tmp_path / "data").feature_names == tuple("vwxyz")


def test_members_are_the_models_it_was_made_of():
    ensemble = ensemble_of()
    pairs = Ensemble.of([ensemble, Ensemble.of(ensemble.members[:2])])
    assert pairs.networks == (*ensemble.networks, *ensemble.networks[:2])
    assert [member.network for member in ensemble.members] == list(ensemble.networks)
    assert ensemble.members[1].classes == ensemble.classes
    for twin in (pickle.loads(pickle.dumps(ensemble)), copy.deepcopy(ensemble)):
        assert (twin.predict_proba(ROWS) == ensemble.predict_proba(ROWS)).all()


@pytest.mark.parametrize("use", [
    lambda ensemble: ensemble.network,
    lambda ensemble: ensemble.transform(ROWS),
    lambda ensemble: fastnn.explain(ensemble, ROWS[0]),
    lambda ensemble: fastnn.train(ensemble, (ROWS, np.zeros(40, int))),
    lambda ensemble: fastnn.export_c("never.c", ensemble),
    lambda ensemble: fastnn.write_page(ensemble, fastnn.load_digits(), "never.html"),
    lambda ensemble: fastnn.MLPClassifier.from_model(ensemble),
    lambda ensemble: fastnn.check_gradients(ensemble, ROWS, np.zeros(40, int)),
])  # fmt: skip
def test_what_needs_one_network_says_how_to_take_one(use):
    with pytest.raises(
        SettingsError, match=r"^the model is an ensemble of 3 networks, expected one of them: --member "
    ):
        use(ensemble_of())


@pytest.mark.parametrize(("make", "kind", "part"), [
    (lambda: Ensemble.of([]), SettingsError, "0 networks, expected 2 or more"),
    (lambda: Ensemble.of([made()]), SettingsError, "1 networks, expected 2 or more"),
    (lambda: Ensemble.of(made()), SettingsError, "models are "),
    (lambda: Ensemble.of([made(), 3]), SettingsError, "expected a Model, a Network"),
    (lambda: Ensemble.of([made(), made("binary")]), DataError, "classes of model 2 are "),
    (lambda: Ensemble.of([made(), made(), made(pixels=(0, 1))]), DataError, "pixels of model 3 are (0, 1), expected N"),
    (lambda: Ensemble.of([made(), made(dtype="float64")]), SettingsError, "network 2 of the ensemble has 5 inputs and 4"
        " softmax outputs in float64, expected 5 inputs and 4 softmax outputs in float32 as network 1"),
    (lambda: Ensemble.of([made("identity"), made("exp")]), SettingsError, "2 exp outputs"),
])  # fmt: skip
def test_models_that_do_not_fit_together_are_named(make, kind, part):
    with pytest.raises(kind) as caught:
        make()
    assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_figures_and_maps_of_what_matters_take_an_ensemble():
    data = fastnn.load_digits()
    ensemble = Ensemble.of(Model.for_data(Network.for_data(data, (8,), seed=seed), data) for seed in range(2))
    assert ConfusionDisplay.from_estimator(ensemble, data).confusion.sum() == len(data)
    found = occlusion(ensemble, data.images[0], patch=2)
    each = [occlusion(member, data.images[0], patch=2, label=found.label) for member in ensemble.members]
    np.testing.assert_allclose(found.drops, np.mean([one.drops for one in each], axis=0), atol=1e-6)
