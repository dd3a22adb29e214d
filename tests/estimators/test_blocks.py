"""Estimators on data in blocks: the bits of a fit in memory, classes over all blocks, predictions, errors, memory."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import CNNClassifier, Conv2D, MLPClassifier, MLPRegressor, open_data
from fastnn.estimators import base
from fastnn.streams.text import CsvReader
from fastnn.training import checkpoint
from fastnn.training.blocks import groups_of_epoch, order_of_group

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the fits are short

# Blocks of one row, of none, and of more rows than a batch.
LENGTHS = (70, 1, 0, 230, 64, 135)
N = sum(LENGTHS)
STARTS = np.cumsum((0, *LENGTHS))
SMALL = {"max_iter": 3, "random_state": 0, "batch_size": 32}


def _images(dtype=np.uint8):
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (N, 36)).astype(np.uint8)
    images[rng.random(images.shape) < 0.6] = 0
    return images if dtype == np.uint8 else (images / 255).astype(dtype)


X = _images()
LABELS = X[:, :18].astype(int).sum(axis=1) // 7 % 4
TARGETS = X[:, :2] / 255.0 - 0.3


def _blocked(images, labels=None, **options):
    def block(k):
        rows = slice(STARTS[k], STARTS[k + 1])
        return images[rows] if labels is None else (images[rows], labels[rows])

    return open_data(block, n_blocks=len(LENGTHS), **options)


def _same(first, second):
    pairs = zip((*first.coefs_, *first.intercepts_), (*second.coefs_, *second.intercepts_), strict=True)
    return all(np.array_equal(*pair) for pair in pairs) and first.loss_curve_ == second.loss_curve_


KINDS = {
    "classifier": (lambda **more: MLPClassifier((12,), **SMALL | more), LABELS),
    "binary": (lambda **more: MLPClassifier((12,), **SMALL | more), LABELS > 1),
    "multilabel": (lambda **more: MLPClassifier((12,), **SMALL | more), (X[:, :3] > 20).astype(int)),
    "regressor": (lambda **more: MLPRegressor(hidden_layer_sizes=(12,), **SMALL | more), TARGETS[:, 0]),
    "two targets": (lambda **more: MLPRegressor(hidden_layer_sizes=(12,), **SMALL | more), TARGETS),
    "images": (lambda **more: CNNClassifier([Conv2D(3), 8], **SMALL | more), LABELS),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [
    {"backend": "numpy"}, {"backend": "numba", "dropout": 0.2},
    {"backend": "numpy", "solver": "sgd", "dtype": "float64"},
], ids=["numpy", "numba", "float64"])  # fmt: skip
def test_without_shuffling_a_fit_has_the_bits_of_one_in_memory(kind, settings):
    make, y = KINDS[kind]
    settings = {"shuffle": False, "input_scale": 1 / 255, **settings}
    found = make(**settings).fit(_blocked(X, y))
    expected = make(**settings).fit(X, y)
    assert _same(found, expected)
    assert (found.t_, found.n_iter_, found.backend_) == (expected.t_, expected.n_iter_, expected.backend_)
    assert not _same(found, make(**settings).fit(X[::-1], y[::-1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_shuffled_fit_has_the_bits_of_one_in_memory_in_the_same_order(dtype, monkeypatch):
    images, configs, train = _images(dtype), [], base.train
    monkeypatch.setattr(
        base, "train", lambda *a, config, **more: configs.append(config) or train(*a, config=config, **more)
    )
    settings = {"dropout": 0.1, "buffer_blocks": 2, "backend": "numpy"}
    found = MLPClassifier((12,), **SMALL, **settings).fit(_blocked(images, LABELS))

    class Order:
        """The rows of each epoch in the order that the description of the buffers gives."""

        def __init__(self, n_samples, random_state):
            self.epoch = 0

        def __call__(self, _):
            filled = np.flatnonzero(LENGTHS)
            order = []
            for group in groups_of_epoch(np.array(LENGTHS)[filled], 2, self.epoch, configs[0]):
                rows = np.concatenate([np.arange(STARTS[filled[k]], STARTS[filled[k] + 1]) for k in group.blocks])
                order.append(rows[order_of_group(group, len(rows), configs[0])])
            self.epoch += 1
            return np.concatenate(order)

    MLPClassifier((12,), **SMALL | {"random_state": 1}, **settings).fit(_blocked(images, LABELS))
    assert configs[0].shuffle is True
    assert configs[0].seed != configs[1].seed
    usual = MLPClassifier((12,), **SMALL, **settings).fit(images, LABELS)
    monkeypatch.setattr(base, "ScikitOrder", Order)
    assert _same(found, MLPClassifier((12,), **SMALL, **settings).fit(images, LABELS))
    assert not _same(found, usual)


@pytest.mark.parametrize("labels", [
    LABELS * 2, np.array(["one", "two", "three", "four"])[LABELS], LABELS + 1, np.full(N, 7),
], ids=["gaps", "texts", "from 1", "one class"])  # fmt: skip
def test_classes_are_those_of_all_blocks(labels):
    """Block 1 has one row; so it lacks classes."""
    settings = {**SMALL, "shuffle": False, "backend": "numpy"}
    found = MLPClassifier((12,), **settings).fit(_blocked(X, labels))
    expected = MLPClassifier((12,), **settings).fit(X, labels)
    np.testing.assert_array_equal(found.classes_, expected.classes_)
    assert found.classes_.dtype.kind == expected.classes_.dtype.kind
    assert _same(found, expected)
    np.testing.assert_array_equal(found.predict(_blocked(X)), expected.predict(X))
    assert found.score(_blocked(X, labels)) == expected.score(X, labels) > 0


def test_classes_that_open_data_was_given_are_the_classes():
    model = MLPClassifier((12,), **SMALL).fit(_blocked(X, LABELS, classes=[9, 3, 0, 1, 2]))
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 3, 9])
    assert model.score(_blocked(X, LABELS)) == model.score(X, LABELS)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_and_scores_are_those_of_all_rows(kind):
    make, y = KINDS[kind]
    model = make(input_scale=1 / 255, backend="numpy").fit(X, y)
    data, weight = _blocked(X, y), np.random.default_rng(0).random(N)
    for method in ("predict", "predict_proba", "predict_log_proba", "transform"):
        if hasattr(model, method):
            found, expected = (getattr(model, method)(each) for each in (data, X))
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.score(data), model.score(X, y), rtol=1e-5)
    np.testing.assert_allclose(model.score(data, sample_weight=weight), model.score(X, y, weight), rtol=1e-5)


def test_a_score_reads_the_labels_with_the_rows(tmp_path, monkeypatch):
    names = np.array(["one", "two", "three", "four"])[LABELS]
    lines = [",".join(map(str, [*row[:6], name])) for row, name in zip(X.tolist(), names, strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["a,b,c,d,e,f,kind", *lines]))
    data, other = (open_data(tmp_path / "x.csv", labels="kind", block_rows=100) for _ in range(2))
    model = MLPClassifier((12,), **SMALL, backend="numpy").fit(data)
    reads, read = [], CsvReader.read
    monkeypatch.setattr(CsvReader, "read", lambda self, *rows: reads.append(rows[0]) or read(self, *rows))
    found = model.score(other)
    assert sorted(reads) == [0, 0, 0, 100, 200, 300, 400]  # the first rows tell columns and backend
    assert found == np.mean(model.predict(data) == names) > 0
    reads.clear()
    assert other.classes == ("four", "one", "three", "two")
    assert reads == []


@pytest.mark.parametrize("labels", [
    LABELS, LABELS * 2, LABELS - 2, LABELS * 1000.0, LABELS > 1, np.array(list("abcd"))[LABELS], np.eye(4)[LABELS],
    np.arange(N) * 3 + 10**6,
], ids=["numbers", "gaps", "below 0", "floats", "bool", "texts", "one-hot", "large"])  # fmt: skip
def test_a_score_is_the_same_whether_or_not_the_classes_are_known(labels, tmp_path):
    np.save(tmp_path / "x.npy", X)
    known, unknown = (open_data(tmp_path / "x.npy", labels=labels, block_rows=90) for _ in range(2))
    make = MLPRegressor if known.has_targets else MLPClassifier
    model = make(hidden_layer_sizes=(12,), **SMALL, backend="numpy").fit(known)
    assert model.score(unknown) == model.score(known)
    values = labels.argmax(axis=1) if labels.ndim == 2 else labels
    np.testing.assert_allclose(model.score(unknown), model.score(X, values), rtol=1e-6)
    assert model.score(open_data(tmp_path / "x.npy", labels=labels[::-1], block_rows=90)) != model.score(known)


@pytest.mark.parametrize("settings", [{}, {"class_weight": "balanced"}, {"class_weight": {0: 3.0}}])
def test_weights_are_those_of_a_fit_in_memory(settings):
    settings = {**SMALL, **settings, "shuffle": False, "backend": "numpy"}
    weight = np.random.default_rng(6).random(N)
    found = MLPClassifier((12,), **settings).fit(_blocked(X, LABELS), sample_weight=weight)
    assert _same(found, MLPClassifier((12,), **settings).fit(X, LABELS, weight))
    assert not _same(found, MLPClassifier((12,), **settings).fit(X, LABELS))


def test_early_stopping_watches_validation_data():
    settings = {**SMALL, "shuffle": False, "backend": "numpy", "early_stopping": True, "n_iter_no_change": 2}
    validation = X[:90], LABELS[:90]
    found = MLPClassifier((12,), **settings).fit(_blocked(X, LABELS), validation_data=validation)
    expected = MLPClassifier((12,), **settings).fit(X, LABELS, validation_data=validation)
    assert found.validation_scores_ == expected.validation_scores_
    assert _same(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_and_warm_start_go_on(kind):
    make, y = KINDS[kind]
    settings = {"shuffle": False, "backend": "numpy", "input_scale": 1 / 255}
    data, first = _blocked(X, y), {} if "r" in kind[0] or kind == "two targets" else {"classes": np.unique(y)}
    if kind == "multilabel":
        first = {"classes": np.arange(3)}
    found = make(**settings).partial_fit(data).partial_fit(data)
    expected = make(**settings).partial_fit(X, y, **first).partial_fit(X, y)
    assert _same(found, expected)
    assert _same(found.partial_fit(X, y), expected.partial_fit(X, y))
    warm = {"warm_start": True, **settings}
    assert _same(make(**warm).fit(data).fit(data), make(**warm).fit(X, y).fit(X, y))


def test_sparse_blocks_are_trained_on_and_predicted():
    images = _images(np.float32)
    data = _blocked(csr_matrix(images), LABELS)
    settings = {**SMALL, "shuffle": False, "backend": "numpy"}
    found = MLPClassifier((12,), **settings).fit(data)
    assert _same(found, MLPClassifier((12,), **settings).fit(images, LABELS))  # buffers are dense
    np.testing.assert_allclose(found.predict_proba(data), found.predict_proba(images), rtol=1e-5)
    with pytest.raises(fastnn.DataError, match="block 0: inputs are a sparse matrix, expected an array"):
        CNNClassifier([Conv2D(3)], **settings).fit(data)
    with pytest.raises(fastnn.DataError, match="X is sparse, expected an array with standardize=True"):
        MLPClassifier((12,), **settings, standardize=True).fit(data)


def test_standardize_learns_the_scale_of_all_rows():
    images = _images(np.float32)
    images[:, 3] += 1000 * (np.arange(N) > N // 2)  # the first rows say nothing of it
    found = MLPClassifier((12,), **SMALL, standardize=True).fit(_blocked(images, LABELS)).network_.standardization
    np.testing.assert_allclose(found.mean, images.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(1 / found.scale, images.std(axis=0, dtype=np.float64), rtol=1e-9)


def test_a_fit_that_a_block_has_ended_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MAX_COST", 1e9)  # a copy of the state after every epoch
    calls = []

    def block(k, fails=True):
        calls.append(k)
        if fails and calls.count(3) > 4 and k == 3:
            raise OSError("the disk is gone")
        return X[STARTS[k] : STARTS[k + 1]], LABELS[STARTS[k] : STARTS[k + 1]]

    settings = {**SMALL, "max_iter": 5, "dropout": 0.1, "backend": "numpy"}
    options = {"n_blocks": len(LENGTHS), "classes": range(4)}
    path = tmp_path / "fit.safetensors"
    with pytest.raises(fastnn.DataError, match=r"block 3: .*the disk is gone"):
        MLPClassifier((12,), **settings).fit(open_data(block, **options), checkpoint=path)
    assert fastnn.load_checkpoint(path).trainer.epochs in (1, 2, 3, 4)
    whole = open_data(lambda k: block(k, fails=False), **options)
    found = MLPClassifier((12,), **settings).fit(whole, checkpoint=path)
    assert _same(found, MLPClassifier((12,), **settings).fit(whole))
    with pytest.raises(fastnn.DataError, match="training data was"):
        MLPClassifier((12,), **settings).fit(_blocked(X, (LABELS + 1) % 4, classes=range(4)), checkpoint=path)


def test_pipelines_clones_and_pickles():
    data = _blocked(X, LABELS)
    model = MLPClassifier((12,), **SMALL, buffer_blocks=3, memory="10MB")
    assert clone(model).get_params() == model.get_params()
    assert make_pipeline(model).fit(data).score(data) == model.score(data)
    assert pickle.loads(pickle.dumps(model)).score(data) == model.score(data)
    with pytest.raises(fastnn.SettingsError, match="found BlockedData, expected an array"):
        make_pipeline(StandardScaler(), model).fit(data)


def test_columns_are_those_of_the_fit(tmp_path):
    rows = np.random.default_rng(0).random((60, 2))
    lines = "\n".join(f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in rows)
    (tmp_path / "x.csv").write_text(f"a,b,label\n{lines}\n")
    (tmp_path / "y.csv").write_text(f"b,a,label\n{lines}\n")
    data, other = (open_data(tmp_path / name, labels="label", block_rows=25) for name in ("x.csv", "y.csv"))
    model = MLPClassifier((4,), **SMALL).fit(data)
    assert list(model.feature_names_in_) == ["a", "b"]
    assert model.predict(data).shape == (60,)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(other)
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 36"):
        MLPClassifier((4,), **SMALL).fit(X, LABELS).predict(open_data(lambda k: rows, n_blocks=1))


CLASSES, NUMBERS, NOTHING = _blocked(X, LABELS), _blocked(X, TARGETS[:, 0]), _blocked(X)
TEXTS = _blocked(X, np.array(list("abcd"))[LABELS])


@pytest.mark.parametrize(("call", "message"), [
    (lambda: MLPClassifier().fit(CLASSES, LABELS), "y is given with BlockedData, expected None"),
    (lambda: MLPClassifier().partial_fit(CLASSES, LABELS), "y is given with BlockedData, expected None"),
    (lambda: MLPClassifier((4,), **SMALL).fit(X, LABELS).score(CLASSES, LABELS), "y is given with BlockedData"),
    (lambda: MLPClassifier().fit(NOTHING), "has no labels, expected them in the blocks"),
    (lambda: MLPClassifier().partial_fit(NOTHING), "has no labels, expected them in the blocks"),
    (lambda: MLPClassifier((4,), **SMALL).fit(X, LABELS).score(NOTHING), "has no labels, expected them in the blocks"),
    (lambda: MLPClassifier().fit(NUMBERS), "numbers to predict as labels, expected classes: use MLPRegressor"),
    (lambda: MLPRegressor().fit(TEXTS), "y holds the string 'a', expected numbers"),
    (lambda: MLPClassifier(early_stopping=True).fit(CLASSES), "expected validation_data with it"),
    (lambda: MLPClassifier().fit(CLASSES, validation_data=CLASSES), "validation_data is BlockedData, expected .X, y"),
    (lambda: MLPClassifier(solver="lbfgs").fit(CLASSES), "solver is 'lbfgs' with BlockedData, expected 'sgd'"),
    (lambda: MLPClassifier(memory="9kB").fit(CLASSES), "memory is '9kB', but buffers of one block of 230 rows"),
    (lambda: MLPClassifier(memory="much").fit(CLASSES), "memory is 'much', expected a number of bytes"),
    (lambda: MLPClassifier().fit(CLASSES, sample_weight=np.ones(3)), r"shape \(3,\), dtype float64, expected \(500,\)"),
    (lambda: MLPClassifier().fit(X), "requires y to be passed, but the target y is None"),
    (lambda: MLPClassifier((4,), **SMALL).fit(X, LABELS).score(X), "y is None, expected the targets of X"),
    (lambda: CNNClassifier(image_shape=(5, 7)).fit(CLASSES), r"X has 36 features, expected image_shape \(5, 7\)"),
])  # fmt: skip
def test_what_does_not_fit_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_failed_fit_leaves_the_estimator_as_it_was():
    model = MLPClassifier((4,), **SMALL).fit(CLASSES)
    before = model.coefs_[0].copy()
    bad = _images(np.float32)
    bad[400, 5] = np.nan
    with pytest.raises(fastnn.DataError, match=r"block 5, row 35 \(from 0\), input 5: found nan"):
        model.fit(_blocked(bad, LABELS))
    np.testing.assert_array_equal(model.coefs_[0], before)
    assert model.score(CLASSES) == model.score(X, LABELS)


# --- Memory ----------------------------------------------------------------------------------------------------------
_MEASURED = """
import warnings
import numpy as np
import fastnn

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

warnings.simplefilter("ignore")
n_blocks, rows = 64, 4096  # 206 MB
peaks = []
def block(k):
    peaks.append(anonymous())
    draws = np.random.default_rng(k)
    return draws.integers(0, 256, (rows, 784), np.uint8), draws.integers(10, size=rows)
data = fastnn.open_data(block, n_blocks=n_blocks, n_rows=n_blocks * rows, block_rows=rows, classes=range(10))
settings = {"hidden_layer_sizes": (16,), "backend": "numpy", "memory": "50MB"}
head = data.head()
fastnn.MLPClassifier(**settings, max_iter=1).fit(head.images, head.labels).score(head.images, head.labels)
before = anonymous()
model = fastnn.MLPClassifier(**settings, max_iter=2).fit(data)
model.score(data)
print(before, max(peaks))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_anonymous_memory_stays_below_the_limit_for_data_four_times_as_large():
    done = subprocess.run([sys.executable, "-c", _MEASURED], capture_output=True, text=True, timeout=120, check=True)
    before, peak = map(int, done.stdout.split())
    assert peak - before < 50e6 + 2**25 + 64 * 4096 * 10 * 4  # the last term: the probabilities of all rows
