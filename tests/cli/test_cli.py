"""Tests of the `fastnn` command: files, output and exit codes, in a pipe, on a terminal and with wrong arguments."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas
import pytest
from PIL import Image

import fastnn
from fastnn.cli.command import main
from fastnn.datasets import Dataset
from fastnn.training.history import EpochRecord

RUN_FILES = {"model.safetensors", "history.csv", "report.json", "checkpoint.safetensors"}
PICTURES = {"curves.png", "confusion.png", "mistakes.png"}


def _names(folder):
    return {path.name for path in folder.iterdir()}


def _write_csv(path, data, rows):
    header = ",".join(["label", *(f"pixel{i}" for i in range(data.images.shape[1]))])
    table = np.column_stack([data.labels, data.images])[:rows]
    np.savetxt(path, table, fmt="%d", delimiter=",", header=header, comments="")
    return str(path)


def _write_png(path, image):
    """Save an MNIST image enlarged and in dark ink."""
    Image.fromarray(255 - image.reshape(28, 28)).resize((200, 200)).save(path)
    return str(path)


def _json(arguments, capsys):
    """Run the command with --json; return the object it prints."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _fails(arguments, code, capsys, words):
    """Assert that the command exits with `code` and prints one line on stderr that contains `words`, after notes."""
    try:
        found = main(arguments)
    except SystemExit as stop:  # argparse exits by itself
        found = stop.code
    assert found == code
    out, err = capsys.readouterr()
    assert out == ""
    *notes, err = err.splitlines()
    assert all(note.startswith("fastnn: labels: column") for note in notes)
    for word in words:
        assert word in err


@pytest.fixture(scope="module", autouse=True)
def _compile_kernels_first():
    fastnn.warmup()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of recipe E with 20 epochs: its folder and the finished process."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    command = [sys.executable, "-m", "fastnn", "train", "--recipe", "digits", "--epochs", "20", "--json"]
    result = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_train_writes_the_files_of_a_run(run):
    folder, _ = run
    assert _names(folder) == RUN_FILES | PICTURES
    for name in PICTURES:
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
    history = pandas.read_csv(folder / "history.csv")
    assert history.columns.tolist() == list(EpochRecord.__annotations__)
    assert history.epoch.tolist() == list(range(1, 21))
    last = json.loads((folder / "report.json").read_text())["last_epoch"]
    assert history.iloc[-1].to_dict() == last


def test_train_prints_one_json_object_and_one_line_per_epoch(run):
    folder, result = run
    answer = json.loads(result.stdout)
    expected = {"run": str(folder), "epochs": 20, "compile_seconds": 0, "diagnosis": []}
    assert {name: answer[name] for name in expected} == expected
    assert answer["seconds"] > 0
    assert answer["test_accuracy"] > 0.9
    lines = result.stderr.splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("epoch 20/20  loss 0.")
    assert "samples/s" in lines[-1]


def test_train_reports_problems_of_a_run(tmp_path, capsys):
    """Recipe E at 15 times its learning rate: findings are printed, saved in report.json and included in the JSON."""
    arguments = ["train", "--recipe", "digits", "--learning-rate", "1.5", "--epochs", "10", "--out"]
    assert main([*arguments, str(tmp_path / "text")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[3:6]] == [
        "learning rate too high", "dead units", "class never predicted",
    ]  # fmt: skip
    assert "Try a learning rate of 0.071 (the highest was 1.5; 0.071 is usual" in lines[3]
    report = json.loads((tmp_path / "text" / "report.json").read_text())
    assert [f"{found['name']}: {found['evidence']}. {found['advice']}." for found in report["diagnosis"]] == lines[3:6]
    assert _json([*arguments, str(tmp_path / "json")], capsys)["diagnosis"] == report["diagnosis"]


def test_report_json_matches_the_saved_model(run):
    """Recomputes accuracy, confusion matrix and recall from the saved model on the recipe's data."""
    from sklearn.metrics import confusion_matrix, recall_score

    folder, _ = run
    report = json.loads((folder / "report.json").read_text())
    model = fastnn.load(folder / "model.safetensors")
    test = fastnn.get_recipe("E").load(seed=0).test
    hidden = test.images / 16
    for layer, (weight, bias) in enumerate(zip(model.network.weights, model.network.biases, strict=True)):
        hidden = hidden @ weight + bias
        hidden = np.maximum(hidden, 0) if layer < 2 else hidden
    predictions = hidden.argmax(axis=1)
    assert report["test_accuracy"] == np.mean(predictions == test.labels)
    np.testing.assert_array_equal(report["confusion"], confusion_matrix(test.labels, predictions))
    recalls = [scores["recall"] for scores in report["per_class"]]
    np.testing.assert_allclose(recalls, recall_score(test.labels, predictions, average=None))
    assert report["data"]["test"]["sha256"] == test.digest()
    expected = {"hidden": [32, 32], "seed": 0, "optimizer": "sgd", "l2": 0}  # the last two are the defaults of train
    assert {name: report["settings"][name] for name in expected} == expected
    assert {"python", "numpy", "numba", "fastnn-digits"} <= set(report["versions"])


def test_evaluate_gives_the_metrics_of_the_run(run, tmp_path, capsys):
    folder, _ = run
    test = fastnn.get_recipe("E").load(seed=0).test
    data = _write_csv(tmp_path / "test.csv", test, len(test))
    answer = _json(["evaluate", str(folder / "model.safetensors"), "--data", data], capsys)
    report = json.loads((folder / "report.json").read_text())
    assert answer["accuracy"] == report["test_accuracy"]
    assert answer["confusion"] == report["confusion"]
    for arguments in ([folder], [folder / "model.safetensors"], [folder, "--recipe", "digits"]):
        found = _json(["evaluate", *map(str, arguments)], capsys)
        assert found == answer, arguments
    explained = _json(["explain", str(folder), "--row", "4"], capsys)
    assert explained["row"] == test.images[4].tolist()
    for arguments, words in (
        (["--data", data, "--recipe", "digits"], ["--data and --recipe", "expected one"]),
        (["--recipe", "mnist"], ["takes 64 inputs, not the images of the recipe mnist"]),
        (["--recipe", "digts"], ["did you mean digits?"]),
        (["--label", "1"], ["--label describes the files of --data, which is not given"]),
    ):
        _fails(["evaluate", str(folder), *arguments], 2, capsys, words)
    assert main(["evaluate", str(folder / "model.safetensors"), "--data", data, "--backend", "numpy"]) == 0
    out = capsys.readouterr().out
    assert f"accuracy {answer['accuracy']:.2%}" in out
    assert len(out.splitlines()) == 13


@pytest.fixture(scope="module")
def mnist_model(mnist, tmp_path_factory):
    """A small network trained on 10,000 MNIST images, saved."""
    data = mnist[0].take(slice(0, 10_000))
    network = fastnn.Network.initialize((784, 32, 10), input_scale=1 / 255)
    result = fastnn.train(network, data, epochs=5, batch_size=32)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    fastnn.save(path, result.network, image_shape=(28, 28))
    return path


def test_predict_recognizes_digits_in_pictures(mnist_model, mnist, tmp_path, capsys):
    """At least 17 of 20 test images are recognized when they are enlarged, inverted to dark ink and saved as PNG."""
    test = mnist[1]
    files = [_write_png(tmp_path / f"{i}.png", test.images[i]) for i in range(20)]
    answers = _json(["predict", str(mnist_model), *files], capsys)
    assert [answer["image"] for answer in answers] == files
    assert sum(answer["prediction"] == label for answer, label in zip(answers, test.labels[:20], strict=True)) >= 17
    assert all(0.1 < answer["probability"] <= 1 for answer in answers)
    assert main(["predict", str(mnist_model), files[0]]) == 0
    assert capsys.readouterr().out.startswith(f"{files[0]}: 7 (")


def test_predict_rejects_bad_models_and_pictures(run, mnist_model, tmp_path, capsys):
    text, model = tmp_path / "text.png", str(mnist_model)
    text.write_text("no picture")
    _fails(["predict", str(run[0] / "model.safetensors"), str(text)], 1, capsys, ["text.png", "not a picture"])
    _fails(["predict", model, str(text)], 1, capsys, ["text.png"])
    _fails(["predict", model, str(tmp_path / "none.png")], 1, capsys, ["none.png"])
    _fails(["predict", str(text), str(text)], 1, capsys, ["text.png"])


def test_predict_answers_unknown_below_the_threshold(mnist_model, mnist, tmp_path, capsys):
    picture = _write_png(tmp_path / "digit.png", mnist[1].images[0])
    fastnn.save(tmp_path / "sure", fastnn.load(mnist_model).network, image_shape=(28, 28), unknown=(1.0, -1))
    (known,) = _json(["predict", str(mnist_model), picture], capsys)
    assert _json(["predict", str(tmp_path / "sure"), picture], capsys) == [{**known, "prediction": -1}]
    assert known["prediction"] == 7


@pytest.mark.parametrize("output", ["logistic", "identity"])
def test_models_without_a_softmax_are_rejected(run, output, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    model = str(folder / "model.safetensors")
    fastnn.save(model, fastnn.Network.initialize((64, 10), output=output), image_shape=(8, 8))
    words = ["10 yes-or-no labels" if output == "logistic" else "expected numbers (359, 10)"]
    _write_csv(tmp_path / "digits.csv", fastnn.load_digits(), 359)
    _fails(["evaluate", model, "--data", str(tmp_path / "digits.csv")], 1, capsys, words)
    _fails(["explain", model, "--row", "0", "--data", str(tmp_path / "digits.csv")], 1, capsys, ["expected softmax"])
    _fails(["report", str(folder)], 1, capsys, words)
    with pytest.raises(fastnn.DataError, match="expected softmax"):
        fastnn.explain(fastnn.load(model).network, np.zeros(784))


def test_explain_gives_the_numbers_for_a_picture(mnist_model, mnist, tmp_path, capsys):
    """The numbers are those of `fastnn.explain` for the row that `predict` prepares from the picture."""
    picture, figure = _write_png(tmp_path / "digit.png", mnist[1].images[0]), str(tmp_path / "figure.svg")
    answer = _json(["explain", str(mnist_model), picture, "--label", "7", "--out", figure], capsys)
    model = fastnn.load(mnist_model)
    expected = fastnn.explain(model.network, fastnn.prepare_image(picture), 7)
    assert answer == {**expected.to_dict(), "figure": figure}
    assert main(["explain", str(mnist_model), picture, "--out", figure]) == 0
    out = capsys.readouterr().out
    assert out.startswith(repr(model.network))
    assert "pixel (" in out
    assert "Loss" not in out
    assert out.endswith(f"\n\nfigure {figure}\n")


def test_explain_gives_the_numbers_for_a_row_of_data(mnist_model, mnist, run, tmp_path, capsys):
    """A row comes with its label; --label replaces it."""
    model, test = fastnn.load(mnist_model), mnist[1]
    explained = fastnn.explain(model.network, test.images[17], int(test.labels[17]), image_shape=(28, 28))
    assert main(["explain", str(mnist_model), "--row", "17"]) == 0
    assert capsys.readouterr().out == f"{explained}\n"
    digits = fastnn.get_recipe("E").load(seed=0).test
    data = _write_csv(tmp_path / "digits.csv", digits, 5)
    arguments = ["explain", str(run[0] / "model.safetensors"), "--data", data, "--row", "4"]
    answer = _json([*arguments, "--label", "2"], capsys)
    assert (answer["row"], answer["label"]) == (digits.images[4].tolist(), 2)
    assert _json(arguments, capsys)["label"] == digits.labels[4]


def test_explain_rejects_wrong_arguments(run, mnist_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.eye(50, dtype=bool)).save("line.png")
    model, digits = str(mnist_model), str(run[0] / "model.safetensors")
    _fails(["explain", model, "text.png"], 1, capsys, ["text.png", "not a picture"])
    _fails(["explain", model, "none.png"], 1, capsys, ["none.png"])
    _fails(["explain", "text.png", "line.png"], 1, capsys, ["text.png"])
    _fails(["explain", model, "line.png", "--label", "10"], 2, capsys, ["--label is '10'", "0, 1, 2"])
    _fails(["explain", model, "--row", "10000"], 2, capsys, ["--row is 10000", "from 0 to 9999"])
    _fails(["explain", model, "line.png", "--row", "1"], 2, capsys, ["not allowed with"])
    _fails(["explain", model, "line.png", "--data", "x.csv"], 2, capsys, ["--data is given with an IMAGE"])
    _fails(["explain", model], 2, capsys, ["IMAGE --row", "required"])
    _fails(["explain", digits, "line.png"], 1, capsys, ["found a picture of 50 x 50 pixels, expected 8 x 8"])
    shutil.copy(digits, "alone.safetensors")
    _fails(["explain", "alone.safetensors", "--row", "0"], 2, capsys, ["takes 64 inputs, not MNIST's", "--data FILE"])
    os.remove("alone.safetensors")
    _fails(["explain", digits, "line.png", "--recipe", "E"], 2, capsys, ["--recipe is given with an IMAGE"])
    _fails(["explain", model, "line.png", "--out", "figure.doc"], 2, capsys, ["figure.doc", "'.doc'", ".png"])
    _fails(["explain", model, "line.png", "--out", "no/figure.png"], 1, capsys, ["figure.png", "does not exist"])
    assert _names(tmp_path) == {"text.png", "line.png"}


def test_recipes_lists_all_recipes(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    described = _json(["recipes"], capsys)
    assert [recipe["name"] for recipe in described] == [recipe.name for recipe in fastnn.RECIPES.values()]
    assert [line[0] for line in lines] == [recipe["letter"] or " " for recipe in described]
    assert "".join(recipe["letter"] for recipe in described) == "ABCDE"


def test_train_uses_files_and_settings_from_the_command_line(mnist, tmp_path, capsys):
    train, test = mnist
    files = [_write_csv(tmp_path / "a.csv", train, 600), _write_csv(tmp_path / "b.csv", test, 100)]
    out = tmp_path / "run"
    arguments = ["--hidden", "16", "8", "--epochs", "2", "--batch-size", "full", "--optimizer", "adam", "--l2", "0.001"]
    more = ["--learning-rate", "0.01", "--schedule", "step:0.5,1", "--dropout", "0.1,0.2", "--seed", "3"]
    last = ["--warm-up", "1", "--activation", "tanh", "--dtype", "float64", "--backend", "numpy", "--patience", "9"]
    last += ["--clip-norm", "2", "--initializer", "he_uniform", "--augment", "shift=2,rotate=5"]
    last += ["--threads", "1", "--max-norm", "2.5", "--average", "ema:0.9"]
    assert main(["train", "--data", *files, *arguments, *more, *last, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["data"]["test"]["samples"] == 100
    assert report["data"]["train"]["samples"] == 540
    assert report["settings"]["files"] == files
    assert report["settings"] | {"files": None} == {
        "recipe": None, "files": None, "from": None, "reading": {}, "standardize": False, "split_seed": None,
        "hidden": [16, 8], "layers": None, "activation": "tanh", "initializer": "he_uniform", "class_weight": None,
        "dtype": "float64", "epochs": 2, "frozen": 0,
        "batch_size": None, "learning_rate": 0.01, "schedule": "step:0.5,1", "optimizer": "adam", "l2": 0.001,
        "dropout": [0.1, 0.2], "seed": 3, "threads": 1, "warm_up": 1, "early_stopping": 9, "backend": "numpy",
        "label_smoothing": 0.0, "divide_l2": False, "shuffle": True, "clip_norm": 2.0, "clip_value": None,
        "augment": "shift=2,rotate=5", "slices": None, "max_norm": 2.5, "average": "ema:0.9", "buffer_blocks": 16,
        "memory": "1GB",
    }  # fmt: skip
    assert report["network"].startswith("Network(784 -> 16 tanh -> 8 tanh -> 10 softmax, float64")
    assert fastnn.load(out / "model.safetensors").network.sizes == (784, 16, 8, 10)
    assert "accuracy" in capsys.readouterr().out
    # One file: a fifth becomes the test set, and a tenth of the rest the validation set.
    assert main(["train", "--data", files[0], "--epochs", "1", "--hidden", "--out", str(tmp_path / "alone")]) == 0
    report = json.loads((tmp_path / "alone" / "report.json").read_text())
    assert [report["data"][part]["samples"] for part in ("train", "validation", "test")] == [432, 48, 120]


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["--recipe", "Z"], 2, ["recipe is 'Z'", "mnist", "full-batch"]),
    (["--batch-size", "0"], 2, ["batch_size is 0", "1 or more"]),
    (["--batch-size", "all"], 2, ["'all'", "'full'"]),
    (["--learning-rate", "nan"], 2, ["learning_rate is nan", "greater than 0"]),
    (["--epochs", "many"], 2, ["--epochs", "'many'"]),
    (["--hidden", "0"], 2, ["hidden is [0]"]),
    (["--schedule", "linear"], 2, ["schedule is 'linear'", "cosine"]),
    (["--epoch-s", "3"], 2, ["unknown option --epoch-s", "--epochs"]),
    (["--recipe", "A", "--data", "x"], 1, ["x: no such file"]),
    (["--data", "nowhere.csv"], 1, ["nowhere.csv"]),
])  # fmt: skip
def test_bad_settings_give_one_line_and_leave_no_files(arguments, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _fails(["train", *arguments], code, capsys, words)
    _fails(["train", *arguments, "--out", "deep/folder"], code, capsys, words)
    assert list(tmp_path.iterdir()) == []


def test_bad_files_give_one_line_and_leave_no_files(run, tmp_path, monkeypatch, capsys, mnist):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.csv").write_text("1,2,3\n4,5,6\n")
    _fails(["train", "--data", "three.csv", "--out", "run"], 1, capsys, ["three.csv", "3 columns"])
    twelve = Dataset(np.ones((24, 64), np.uint8), np.arange(24) % 12)
    _write_csv(tmp_path / "twelve.csv", twelve, 24)
    model = str(run[0] / "model.safetensors")
    words = ["4 of 24 labels are none of the classes, such as 10 of sample 10"]
    _fails(["evaluate", model, "--data", "twelve.csv"], 1, capsys, words)
    _write_csv(tmp_path / "wide.csv", mnist[0], 3)
    _write_csv(tmp_path / "digits.csv", Dataset(np.ones((24, 64), np.uint8), np.arange(24) % 10), 24)
    _fails(["train", "--data", "digits.csv", "twelve.csv"], 1, capsys, ["twelve.csv", "10"])
    np.savetxt("bare.csv", np.ones((5, 64)), fmt="%d", delimiter=",")
    _fails(["train", "--data", "bare.csv"], 1, capsys, ["bare.csv has no labels"])
    _fails(["evaluate", model, "--data", "wide.csv"], 1, capsys, ["wide.csv has 784 columns, expected 64"])
    assert _names(tmp_path) == {"three.csv", "twelve.csv", "wide.csv", "digits.csv", "bare.csv"}


def test_a_run_is_never_overwritten_and_an_impossible_folder_is_named(run, tmp_path, capsys):
    folder, _ = run
    before = {path: path.read_bytes() for path in folder.iterdir()}
    _fails(["train", "--recipe", "digits", "--out", str(folder)], 1, capsys, [str(folder), "already holds a run"])
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "run")
    _fails(["train", "--recipe", "digits", "--out", out], 1, capsys, [out, "Not a directory"])


def test_divergence_gives_one_line_and_keeps_the_last_good_network(tmp_path, capsys):
    out = tmp_path / "run"
    settings = ["--learning-rate", "1e-3", "--schedule", "exponential:1e20", "--epochs", "5"]
    assert main(["train", "--recipe", "digits", *settings, "--out", str(out)]) == 1
    err = capsys.readouterr().err
    assert "fastnn: training diverged in epoch 2" in err
    assert "the network after epoch 1 is in" in err
    assert _names(out) == RUN_FILES
    report = json.loads((out / "report.json").read_text())
    assert (report["stopped"], report["epochs"]) == ("diverged", 1)
    assert report.keys() & {"test_accuracy", "test_loss", "per_class", "confusion"} == set()
    assert fastnn.load(out / "model.safetensors").network.sizes == (64, 32, 32, 10)
    # A run that diverges in its first epoch leaves no folder.
    lost = tmp_path / "lost"
    assert main(["train", "--recipe", "digits", "--learning-rate", "1e38", "--out", str(lost)]) == 1
    assert not lost.exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("sent", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_ends_the_run_after_its_last_whole_epoch(sent, code, word, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "fastnn", "train", "--epochs", "20000", "--recipe", "digits", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(2):  # a line every 100 epochs
        assert process.stderr.readline().startswith("epoch")
    process.send_signal(getattr(signal, sent))
    out_text, err = process.communicate(timeout=30)
    assert (process.returncode, out_text) == (code, "")
    assert err.splitlines()[-1] == f"fastnn: {word}"
    assert _names(out) - {"checkpoint.previous.safetensors"} == RUN_FILES
    assert json.loads((out / "report.json").read_text())["stopped"] == "interrupted"
    epochs = len((out / "history.csv").read_text().splitlines()) - 1
    assert f"after epoch {epochs} is in" in err
    fastnn.load(out / "model.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_run_leaves_its_last_checkpoint(tmp_path):
    out = tmp_path / "run"
    program = (
        "import fastnn.runs.folder, sys; fastnn.runs.folder.SECONDS_BETWEEN_MODELS = 0.0\n"
        "from fastnn.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "train", "--epochs", "20000", "--recipe", "digits", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        process.stderr.readline()  # after 100 epochs
        time.sleep(0.2)
        process.kill()
    assert fastnn.load(out / "model.safetensors").network.sizes == (64, 32, 32, 10)


def test_a_closed_pipe_gives_no_error_message():
    command = [sys.executable, "-m", "fastnn", "recipes"]
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_a_terminal_gets_a_progress_bar(tmp_path):
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "fastnn", "train", "--recipe", "digits", "--epochs", "8"]
    command, environment = [*command, "--out", str(tmp_path / "run")], {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    process = subprocess.Popen(command, stderr=follower, stdout=subprocess.PIPE, env=environment)
    os.close(follower)
    seen = b""
    try:
        while chunk := os.read(leader, 4096):
            seen += chunk
    except OSError:  # Linux raises it when the other end is closed
        pass
    os.close(leader)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert all(part in seen for part in (b"epoch 8/8", b"validation accuracy", b"samples/s", b"\x1b["))
    assert b"\x1b[" not in out
    assert b"accuracy" in out


def test_version_and_help_are_printed(capsys):
    for arguments, word in ((["--version"], "fastnn 0."), (["train", "--help"], "--learning-rate")):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert word in capsys.readouterr().out
    assert main([]) == 0
    assert "fastnn train" in capsys.readouterr().out


HEAVY = {"pandas", "matplotlib", "sklearn", "numba", "PIL"}
DRAW = "fastnn.plots.ConfusionDisplay.from_predictions([0, 1], [0, 1])._repr_png_()"


@pytest.mark.parametrize(("code", "unwanted"), [
    ("import fastnn.cli.command; fastnn.cli.command.parser()", HEAVY | {"numpy", "rich"}),
    ("import fastnn.datasets", HEAVY | {"scipy"}),
    ("import fastnn.plots", HEAVY - {"PIL"}),
    (f"import fastnn.plots; {DRAW}", {"matplotlib.pyplot"}),
    ("import fastnn.estimators, fastnn.files.onnx; fastnn.export_onnx", {"onnx", "onnxruntime"}),
])  # fmt: skip
def test_packages_are_imported_when_they_are_used(code, unwanted):
    command = [sys.executable, "-W", "error", "-c", f"{code}; import sys; print(*sys.modules)"]
    assert not unwanted & set(subprocess.check_output(command, text=True).split())


def test_python_started_in_a_checkout_finds_the_kernels():
    """After a plain install, Python started in a checkout imports its `fastnn`, which has no kernels inside."""
    root = os.path.dirname(os.path.dirname(fastnn.__file__))
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "import fastnn; print(fastnn.get_backend('numba').__name__)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("fastnn.backends.compiled\n", "")


def test_the_command_is_installed():
    command = shutil.which("fastnn", path=os.path.dirname(sys.executable))
    assert command, "no console script beside this Python"
    result = subprocess.run([command, "recipes"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("   mnist")
