"""Tests of `fastnn.write_page` and the command: the file, its size, its numbers, and what it refuses."""

import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest

import fastnn
from fastnn import evaluation
from fastnn.cli.command import main
from fastnn.models import Model
from fastnn.pages.page import as_stored


@pytest.fixture(scope="module")
def model(mnist):
    """784-128-10, trained for one epoch."""
    train, _ = mnist
    network = fastnn.Network.for_data(train, (128,))
    return Model.for_data(fastnn.train(network, train, epochs=1, learning_rate=0.1).network, train)


@pytest.fixture(scope="module")
def digits():
    """The 8 x 8 digits, and a model for them."""
    data = fastnn.load_digits()
    network = fastnn.train(fastnn.Network.for_data(data, (16,)), data, epochs=10, learning_rate=0.1).network
    return Model.for_data(network, data), data


class Elements(HTMLParser):
    """Collects the text of scripts and styles, and every attribute."""

    def __init__(self, text):
        super().__init__()
        self.open, self.scripts, self.styles, self.attributes, self.content = None, [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        self.open = tag if dict(attributes).get("type") != "application/json" else "content"

    def handle_data(self, data):
        if self.open == "script":
            self.scripts.append(data)
        elif self.open == "style":
            self.styles.append(data)
        elif self.open == "content":
            self.content = json.loads(data)

    def handle_endtag(self, tag):
        self.open = None


def test_the_page_of_a_dense_network_is_one_file_of_less_than_a_megabyte(model, mnist, tmp_path):
    page = fastnn.write_page(model, path=tmp_path / "page.html")
    assert page.path.stat().st_size == page.n_bytes < 1_000_000
    assert page.accuracy == page.model_accuracy == fastnn.evaluate(model, mnist[1])[1]
    elements = Elements(page.path.read_text("utf-8"))
    policy = next(value for name, value in elements.attributes if name == "content" and "script-src" in value)
    for texts in (elements.scripts, elements.styles):
        assert texts
        for text in texts:
            assert f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in policy
    assert policy.count("sha256") == len(elements.scripts) + len(elements.styles)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not [each for each in elements.attributes if each[0] in ("src", "href", "style") or each[0].startswith("on")]
    again = fastnn.write_page(model, path=tmp_path / "again.html")
    assert again.path.read_bytes() == page.path.read_bytes()


def test_the_images_are_the_worst_mistakes_and_correct_ones_of_all_classes(model, mnist, tmp_path):
    _, test = mnist
    page = fastnn.write_page(model, test, tmp_path / "page.html")
    samples = Elements(page.path.read_text("utf-8")).content["samples"]
    proba = model.predict_proba(test.images)
    mistakes = evaluation.mistakes(test.labels, proba)
    assert len(samples["rows"]) == 50
    shown, errors = samples["rows"][:40], {}
    for row in mistakes:  # worst first
        errors.setdefault((test.labels[row], proba[row].argmax()), []).append(row)
    frequent = sorted(errors.values(), key=lambda rows: -len(rows))
    assert all(set(rows[:2]) <= set(shown) for rows in frequent[:4])
    assert shown == [row for row in mistakes if row in shown]
    assert shown[:20] == mistakes[:20].tolist()
    assert samples["mistakes"] == len(mistakes)
    assert samples["labels"] == test.labels[samples["rows"]].tolist()
    assert samples["labels"][40:] == list(range(10))
    assert (proba[samples["rows"][40:]].argmax(axis=1) == range(10)).all()
    assert b64decode(samples["images"]["data"]) == test.images[samples["rows"]].tobytes()


def test_fewer_mistakes_leave_room_for_more_correct_images(digits, tmp_path):
    model, data = digits
    page = fastnn.write_page(model, data, tmp_path / "page.html")
    content = Elements(page.path.read_text("utf-8")).content
    rows, n_wrong = content["samples"]["rows"], content["samples"]["mistakes"]
    assert n_wrong > 0
    assert len(rows) == len(set(rows)) == 50
    assert not content["takesDrawings"]
    few = fastnn.write_page(model, data.take(np.arange(20)), tmp_path / "few.html")
    assert sorted(Elements(few.path.read_text("utf-8")).content["samples"]["rows"]) == list(range(20))


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_smaller_weights_state_the_measured_accuracy(weights, model, mnist, tmp_path):
    _, test = mnist
    whole, page = (fastnn.write_page(model, test, tmp_path / f"{each}.html", each) for each in ("float32", weights))
    saved = model.network.weights[0].size * {"float16": 2, "int8": 3}[weights] * 4 / 3
    assert whole.n_bytes - page.n_bytes == pytest.approx(saved, rel=0.02)
    rounded = Model.for_data(as_stored(model.network, weights), test)
    assert page.accuracy == fastnn.evaluate(rounded, test)[1]
    assert page.model_accuracy == whole.accuracy
    assert abs(page.accuracy - page.model_accuracy) < 0.003
    content = Elements(page.path.read_text("utf-8")).content
    assert content["stored"] == {"type": weights, "accuracy": page.accuracy, "modelAccuracy": page.model_accuracy}
    assert content["data"]["accuracy"] == np.trace(content["confusion"]) / 10_000 == page.accuracy


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_loss_that_is_not_finite_is_told(digits, tmp_path):
    model, data = digits
    biases = np.zeros(10, np.float32)
    biases[:2] = 3e38, -3e38  # the loss of class 1 is infinite
    network = fastnn.Network([np.zeros((64, 10), np.float32)], [biases])
    large = Model(network, model.classes, model.image_shape)
    page = fastnn.write_page(large, data, tmp_path / "page.html")
    assert Elements(page.path.read_text("utf-8")).content["data"]["loss"] is None


def test_names_cannot_end_the_script_element(digits, tmp_path):
    model, data = digits
    names = ["</script><script>alert(1)</script>", "<!--", "\u2028", *"3456789"]
    data = fastnn.Dataset(data.images, [names[label] for label in data.labels], name="<b>", image_shape=(8, 8))
    hostile = Model(model.network, tuple(sorted(names)), (8, 8))
    page = fastnn.write_page(hostile, data, tmp_path / "page.html")
    elements = Elements(page.path.read_text("utf-8"))
    assert elements.content["classes"] == sorted(names)
    assert elements.content["data"]["name"] == "<b>"
    assert len(elements.scripts) == 5


@pytest.mark.parametrize(
    ("network", "shape", "words"),
    [
        (fastnn.Network.initialize((64, 1), output="identity"), None, "are numbers, expected a classifier of images"),
        (fastnn.Network.initialize((64, 10)), None, "rows of 64 numbers, expected a classifier of images"),
        (fastnn.Network.initialize((64, 3), output="logistic"), (8, 8), "3 yes-or-no labels, expected one of C"),
    ],
)
def test_models_without_images_or_classes_are_refused_in_one_line(network, shape, words, tmp_path):
    classes = None if network.output == "identity" else tuple(range(network.n_outputs))
    with pytest.raises(fastnn.DataError, match=words):
        fastnn.write_page(Model(network, classes, shape), path=tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_other_faults_are_one_line(digits, tmp_path):
    model, data = digits
    with pytest.raises(fastnn.DataError, match="images of 8 x 8, not MNIST's: give data"):
        fastnn.write_page(model, path=tmp_path / "page.html")
    with pytest.raises(fastnn.SettingsError, match="weights is 'int4'"):
        fastnn.write_page(model, data, tmp_path / "page.html", "int4")
    with pytest.raises(fastnn.FileError, match=r"no folder|does not exist"):
        fastnn.write_page(model, data, tmp_path / "none" / "page.html")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_beside_the_model_and_tells_size_and_accuracy(digits, tmp_path, capsys):
    model, _ = digits
    fastnn.save(tmp_path / "model.safetensors", model)
    arguments = ["page", str(tmp_path / "model.safetensors"), "--recipe", "digits", "--quiet"]
    assert main([*arguments, "--weights", "int8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    page = tmp_path / "page.html"
    assert lines[0] == f"page {page}, {page.stat().st_size / 1000:,.0f} kB"
    assert re.fullmatch(r"accuracy \d+\.\d\d% on [\d,]+ samples of .+", lines[1])
    assert re.fullmatch(r"int8 changes the accuracy by [+-]\d\.\d\d points, from \d+\.\d\d%", lines[2])
    assert main([*arguments, "--out", str(tmp_path / "other.html"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["page"] == str(tmp_path / "other.html")
    assert answer["bytes"] == (tmp_path / "other.html").stat().st_size > page.stat().st_size
    assert answer["weights"] == "float32"
    assert answer["accuracy"] == answer["model_accuracy"] > 0.8


def test_the_command_without_data_refuses_a_model_for_other_images(digits, tmp_path, capsys):
    fastnn.save(tmp_path / "model.safetensors", digits[0])
    assert main(["page", str(tmp_path / "model.safetensors")]) == 2
    assert "takes 64 inputs, not MNIST's images; give --data FILE" in capsys.readouterr().err
