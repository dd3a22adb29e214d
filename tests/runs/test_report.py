"""Tests of the report of a run: the page, its source data, and the errors for damaged run folders."""

import base64
import csv
import json
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import fastnn
from fastnn import evaluation
from fastnn.cli.command import main
from fastnn.errors import DataError, FileError
from fastnn.runs import report
from fastnn.runs.report import write_report
from fastnn.runs.saved import read_run

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """A parsed page: its tags with attributes, and the texts of each tag."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.texts = [], [], {}
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == [], "a tag is not closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module", autouse=True)
def _low_resolution_pictures():
    """Pictures with few pixels take half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_DPI", 40)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of recipe E with 8 epochs."""
    folder = tmp_path_factory.mktemp("runs") / "a run & <i>more</i>"
    assert main(["train", "--recipe", "digits", "--epochs", "8", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def page(run):
    return Page(write_report(run))


def test_the_page_is_self_contained(page, run):
    assert (run / "report.html").exists()
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form"} == set()
    links = {"src", "href", "srcset", "data", "action", "background"}
    sources = [attributes[name] for _, attributes in page.tags for name in links & attributes.keys()]
    anchors = [source for source in sources if source.startswith("#")]
    assert anchors == [f"#{section['id']}" for section in page.named("section")]
    sources = [source for source in sources if not source.startswith("#")]
    assert len(sources) == len(page.named("img")) > 0
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in page.texts["style"][0]
    assert "@import" not in page.texts["style"][0]
    policy = next(each for each in page.named("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_are_complete_and_have_alt_texts(page):
    for image in page.named("img"):
        data = base64.b64decode(image["src"].partition(",")[2], validate=True)
        with Image.open(BytesIO(data)) as picture:
            picture.load()
            assert int(image["width"]) == round(picture.width * 100 / 40)
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
        assert len(image["alt"]) > 30
    assert len({image["src"] for image in page.named("img")}) == len(page.named("figcaption"))
    assert len(page.named("figcaption")) == len(page.named("img")) > 0


def test_the_page_has_a_title_headings_and_captions(page, run):
    assert page.named("html") == [{"lang": "en"}]
    assert page.texts["h1"] == [f"Run {run.name}"]  # the name was escaped: the parser returns it unchanged
    assert page.named("i") == []
    assert page.texts["h2"] == [
        "Diagnosis", "Learning curves", "Confusion matrix", "Metrics per class", "Samples", "Confidence",
        "Inside the network", "Settings, data and environment",
    ]  # fmt: skip
    assert all(header.get("scope") in ("row", "col") for header in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    assert "prefers-color-scheme: dark" in page.texts["style"][0]
    assert "@media print" in page.texts["style"][0]


def test_the_page_shows_the_metrics_of_the_run(page, run):
    saved = json.loads((run / "report.json").read_text())
    terms = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert terms["accuracy"] == f"{100 * saved['test_accuracy']:.2f} %"
    assert terms["misclassified"] == f"{round(359 * (1 - saved['test_accuracy']))} of 359"
    assert terms["loss"] == f"{saved['test_loss']:.4f}"
    assert terms["parameters"] == "3,466"
    model, test = fastnn.load(run / "model.safetensors"), fastnn.get_recipe("E").load(seed=0).test
    proba = fastnn.get_backend("numpy").predict_proba(model.network, test.images)
    assert terms["calibration error"] == f"{100 * evaluation.calibration_error(test.labels, proba):.2f} %"
    cells = page.texts["td"]
    for scores in saved["per_class"]:
        first = cells.index(f"{100 * scores['precision']:.2f} %")
        row = [f"{100 * scores[name]:.2f} %" for name in ("precision", "recall", "f1")] + [str(scores["support"])]
        assert any(cells[start : start + 4] == row for start in range(first, len(cells)))
    with open(run / "history.csv") as file:
        losses = [f"{float(record['loss']):.4f}" for record in csv.DictReader(file)]
    assert [cell for cell in cells if cell in losses] == losses
    found = evaluation.threshold_for(test.labels, proba, 0.99)
    assert f"{100 * found.coverage:.2f} %" in cells
    for name, value in (("learning rate", "0.1"), ("hidden", "32, 32"), ("optimizer", "sgd"), ("seed", "0")):
        assert name in page.texts["th"]
        assert value in cells


def test_alt_texts_state_the_result_of_a_picture(page, run):
    words = [image["alt"] for image in page.named("img")]
    history = read_run(run).history
    best = 1 + int(history.column("validation_loss").argmin())
    assert words[0].startswith("Loss and accuracy of training and validation over 8 epochs")
    assert words[0].endswith(f"the loss is lowest in epoch {best}.")
    counts = np.array(json.loads((run / "report.json").read_text())["confusion"])
    np.fill_diagonal(counts, 0)
    true, predicted = np.unravel_index(counts.argmax(), counts.shape)
    assert f"the most frequent error is {true} predicted as {predicted}, {counts.max()} times" in words[1]


def test_the_same_run_gives_the_same_bytes(page, run, tmp_path):
    again = write_report(run, tmp_path / "again.html")
    assert again.read_bytes() == (run / "report.html").read_bytes()


def test_findings_are_on_the_page_and_escaped(page, copy):
    advice = "<script>alert(1)</script> & 'more'"
    with _edited(copy) as saved:
        saved["diagnosis"] = [{"name": "overfitting", "evidence": "1 < 2", "advice": advice}]
        saved["settings"]["schedule"] = '"><img src=x onerror=alert(1)>'
    found = Page(write_report(copy))
    assert found.texts["h2"][0] == "Diagnosis"
    assert found.texts["li"][-1] == f"overfitting: 1 < 2. {advice}."
    assert '"><img src=x onerror=alert(1)>' in found.texts["td"]
    assert found.named("script") == []
    assert len(found.named("img")) == len(page.named("img"))


def test_moved_data_files_are_found_with_the_data_option(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    rows = np.column_stack([np.arange(80) % 3, rng.integers(0, 2, (80, 5))])
    np.savetxt("table.csv", rows, fmt="%d", delimiter=",", header="label,a,b,c,d,e", comments="")
    assert main(["train", "--data", "table.csv", "--hidden", "--epochs", "2", "--out", "run"]) == 0
    monkeypatch.chdir("/")
    run = str(tmp_path / "run")
    capsys.readouterr()
    assert main(["report", run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(tmp_path / "run" / "report.html")}
    assert len(Page(tmp_path / "run" / "report.html").named("img")) == 7  # no hidden layer, no images
    moved, page = str(tmp_path / "moved.csv"), tmp_path / "b.html"
    (tmp_path / "table.csv").rename(moved)
    _one_line(["report", run], 1, capsys, ["table.csv: no such file", "--data"])
    again = ["report", run, "--data", moved, "--out", str(page)]
    assert main(again) == 0
    assert capsys.readouterr().out == f"report {page}\n"
    assert page.read_bytes() == (tmp_path / "run" / "report.html").read_bytes()
    rows[:, 1] = 1 - rows[:, 1]
    np.savetxt(moved, rows, fmt="%d", delimiter=",", header="label,a,b,c,d,e", comments="")
    page.unlink()
    _one_line(again, 1, capsys, ["moved.csv", "unchanged"])
    assert not page.exists()


def test_a_healthy_run_says_so_and_every_run_how_to_repeat_it(copy):
    with _edited(copy) as saved:
        saved["diagnosis"] = []
    page = Page(write_report(copy))
    assert any(text.startswith("Nothing looks wrong") for text in page.texts["p"])
    assert page.texts["code"] == [shlex.join(["fastnn", "train", "--config", str(copy)])]
    assert any(saved["date"] in text for text in page.texts["p"])


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_table_has_a_chart_of_features_and_no_pictures_of_samples(task, tmp_path):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(120, 3))
    target = 100 * inputs[:, 1] if task == "regression" else inputs[:, 1] > 0
    np.savetxt(
        tmp_path / "table.csv", np.column_stack([inputs, target]), "%.4f", ",", header="a,b,c,target", comments=""
    )
    arguments = ["--label", "target", "--task", task, "--backend", "numpy", "--epochs", "40", "--quiet"]
    assert main(["train", "--data", str(tmp_path / "table.csv"), *arguments, "--out", str(tmp_path / "run")]) == 0
    page = Page(write_report(tmp_path / "run", backend="numpy"))
    assert "Samples" not in page.texts["h2"]
    assert ("Confusion matrix" in page.texts["h2"]) == (task == "classification")
    assert ("Predictions" in page.texts["h2"]) == (task == "regression")
    alts = [image["alt"] for image in page.named("img")]
    assert sum("that of b is largest" in alt for alt in alts) == 1
    terms = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    saved = json.loads((tmp_path / "run" / "report.json").read_text())
    if task == "regression":
        assert terms["R²"] == f"{saved['test_r2']:.4f}"
        assert terms["root mean squared error"] == f"{saved['test_rmse']:.4g}"
    else:
        assert terms["accuracy"] == f"{100 * saved['test_accuracy']:.2f} %"


def test_a_network_for_images_has_pictures_of_its_filters_and_feature_maps(copy):
    model = fastnn.load(copy / "model.safetensors")
    layers = [fastnn.Conv2D(4, 3), fastnn.MaxPool2D(), fastnn.Dense(10)]
    network = fastnn.Network.initialize((1, 8, 8), layers, input_scale=1 / 16)
    network.biases[0][2] = -100
    fastnn.save(copy / "model.safetensors", replace(model, network=network))
    page = Page(write_report(copy, backend="numpy"))
    alts = [image["alt"] for image in page.named("img")]
    assert "4 of 4 filters of layer 1, drawn as images." in alts
    assert "The first sample, and the feature maps of 2 layers for it." in alts
    assert alts[-1].endswith("; 1 of 4 filters of hidden layer 1 are dead; 1 of 4 channels of hidden layer 2 are dead.")
    assert not any("weights into" in alt for alt in alts)


def test_a_run_that_diverged_has_a_report(tmp_path):
    settings = ["--learning-rate", "1e-3", "--schedule", "exponential:1e20", "--epochs", "5"]
    assert main(["train", "--recipe", "digits", *settings, "--out", str(tmp_path / "run")]) == 1
    page = Page(write_report(tmp_path / "run"))
    assert "diverged: the loss was no longer finite" in page.texts["p"][0]
    assert dict(zip(page.texts["dt"], page.texts["dd"], strict=True))["epochs"] == "1"


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run without its report.html."""
    return shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("report.html"))


@contextmanager
def _edited(folder):
    """Give the content of report.json to change, and write it back."""
    saved = json.loads((folder / "report.json").read_text())
    yield saved
    (folder / "report.json").write_text(json.dumps(saved))


def _one_line(arguments, code, capsys, words):
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err, err


@pytest.mark.parametrize("name", ["history.csv", "report.json", "model.safetensors"])
def test_a_missing_file_is_named(name, copy, capsys):
    (copy / name).unlink()
    _one_line(["report", str(copy)], 1, capsys, [str(copy), name])
    assert not (copy / "report.html").exists()


def test_a_missing_folder_is_named(tmp_path, capsys):
    _one_line(["report", str(tmp_path / "none")], 1, capsys, ["none is not a folder", "fastnn train"])
    (tmp_path / "file").write_text("")
    _one_line(["report", str(tmp_path / "file")], 1, capsys, ["file is not a folder"])


@pytest.mark.parametrize(("text", "found"), [
    ("", "line 1 is ''"),
    ("epoch,loss\n1,2\n", "line 1 is 'epoch,loss', expected epoch,learning_rate"),
    ("{header}\n", "has no epochs"),
    ("{header}\n1,0.1,2,0.5,,,1\n2,0.1,high,0.5,,,1\n", "line 3 is '2,0.1,high,0.5,,,1', expected 7 numbers"),
    ("{header}\n1,0.1,2\n", "line 2 is '1,0.1,2', expected 7 numbers"),
    ("{header}\n1,2,3,4,5,6,7,8\n", "line 2 is"),
    ("{header}\n,2,3,4,5,6,7\n", "line 2 is"),
    ("{header}\ninf,2,3,4,5,6,7\n", "line 2 is"),
    ('{header}\n"' + "1" * 200_000 + '"\n', "is not CSV"),
    ("\xff", "is not UTF-8"),
])  # fmt: skip
def test_a_damaged_history_is_named(text, found, copy):
    header = "epoch,learning_rate,loss,accuracy,validation_loss,validation_accuracy,seconds"
    (copy / "history.csv").write_bytes(text.replace("{header}", header).encode("latin-1"))
    with pytest.raises(DataError, match=r"history\.csv") as caught:
        read_run(copy)
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "found"), [
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ("[]", "the report is list, expected dict"),
    ({"settings": None}, "the report's settings is NoneType, expected dict"),
    ({"stopped": 3}, "the report's stopped is int, expected str"),
    ({"seconds": True}, "the report's seconds is bool, expected float or int"),
    ({"data": {"train": {}}}, "the report's data's train has no name"),
    ({"diagnosis": [{"name": "x"}]}, "the report's diagnosis has no evidence"),
    ({"test_accuracy": "high"}, "test_accuracy is str"),
    ({"settings": {"recipe": None, "files": None, "seed": 0}}, "neither recipe nor files"),
    ({"settings": {"recipe": None, "files": [1], "seed": 0}}, "files is int, expected str"),
    ({"settings": {"recipe": "digits", "files": None}}, "settings has no seed"),
])  # fmt: skip
def test_a_damaged_report_is_named(change, found, copy):
    if isinstance(change, str):
        (copy / "report.json").write_text(change)
    else:
        with _edited(copy) as saved:
            saved |= change
    with pytest.raises(DataError, match=r"report\.json") as caught:
        write_report(copy)
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_validation_data_may_have_their_old_name_but_not_be_missing(copy):
    with _edited(copy) as saved:
        expected = saved["data"]["watched"] = saved["data"].pop("validation")
    assert read_run(copy).report["data"]["validation"] == expected
    assert expected["sha256"][:12] in write_report(copy).read_text()
    with _edited(copy) as saved:
        del saved["data"]["watched"]
    with pytest.raises(DataError, match=r"report\.json: the report's data has no validation"):
        write_report(copy)


def test_another_seed_gives_another_test_set(copy):
    with _edited(copy) as saved:
        saved["settings"]["seed"] = 1
    with pytest.raises(DataError, match=r"8x8 digits .*: the test set of 359 samples differs from that of"):
        write_report(copy)


def test_a_report_that_cannot_be_written_is_named(run):
    with pytest.raises(FileError, match=r"no/such/folder/x\.html"):
        write_report(run, "no/such/folder/x.html")
