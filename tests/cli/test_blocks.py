"""The command on data in blocks: when it reads them, what it holds out, resumption, evaluation, prediction, errors."""

import argparse
import csv
import json
import re
import shutil

import numpy as np
import pytest

import fastnn
from fastnn.cli.command import main, parser
from fastnn.cli.train import planned_run
from fastnn.runs.code import RunCode
from fastnn.runs.data import read_splits
from fastnn.runs.saved import read_report
from fastnn.streams import open as opening
from fastnn.streams import splits as splitting
from fastnn.streams.blocked import BlockedData

pytestmark = pytest.mark.usefixtures("copies_after_every_batch", "undrawn_figures")

N = 3000
QUICK = ["--epochs", "3", "--backend", "numpy", "--quiet"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the same samples in several formats: digits.npy and its labels, digits.h5, parts, a table."""
    h5py = pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 6, 6)).astype(np.uint8)
    images[rng.random(images.shape) < 0.5] = 0
    labels = (images[:, :3].sum(axis=(1, 2)) > images[:, 3:].sum(axis=(1, 2))) * 1 + 2 * (images[:, 0, 0] > 0)
    np.save(folder / "digits.npy", images)
    np.save(folder / "digits.labels.npy", labels)
    for number in range(2):
        np.save(folder / f"part-{number}.npy", images[number * 1500 : number * 1500 + 1500])
        np.save(folder / f"part-{number}.labels.npy", labels[number * 1500 : number * 1500 + 1500])
    with h5py.File(folder / "digits.h5", "w") as file:
        file.create_dataset("images", data=images, chunks=(300, 6, 6))
        file.create_dataset("labels", data=labels)
    rows = rng.normal(size=(N, 3)) * [1, 10, 100] + 5
    kinds = np.where(rows @ [1, 0.1, 0.01] > 5.55, "yes", "no")
    for name, last in (("kinds", kinds), ("prices", rows @ [100, 10, 1])):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["a", "b", "c", "target"], *([*row, each] for row, each in zip(rows, last, strict=True))])
    return folder


def _run(capsys, *arguments):
    """The report of a run of the command, which succeeds."""
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def train(capsys, tmp_path):
    def run(*arguments, out="run"):
        found = _run(capsys, "train", *QUICK, "--out", tmp_path / out, *arguments)
        return found, read_report(tmp_path / out)

    return run


# --- When ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("options", "blocks"), [
    (["digits.npy", "--memory", "1GB"], 1),
    (["digits.npy", "--buffer-blocks", "2"], 1),
    (["digits.npy", "--block-rows", "700"], 5),
    (["digits.h5"], 1),
    (["part-?.npy"], 1),
    (["kinds.csv", "--block-rows", "500"], 6),
])  # fmt: skip
def test_data_are_in_blocks_if_an_option_or_the_format_asks_for_it(options, blocks, data, train, monkeypatch):
    reads = []
    read = BlockedData.read
    monkeypatch.setattr(BlockedData, "read", lambda self, k, out=None: reads.append(k) or read(self, k, out))
    _, report = train("--data", data / options[0], *options[1:])
    assert set(reads) == set(range(blocks))
    assert report["settings"]["reading"]["block_rows"] == (int(options[2]) if "--block-rows" in options else 65_536)
    assert (report["settings"]["memory"], report["data"]["train"]["samples"]) == ("1GB", 2160)
    assert any("is read in blocks" in note for note in report["notes"])


def test_large_files_are_in_blocks_and_others_in_memory(data, train, tmp_path, monkeypatch):
    _, report = train("--data", data / "kinds.csv")
    assert report["settings"]["reading"] == {}
    _, report = train("--config", tmp_path / "run", out="repeated")
    assert report["settings"]["reading"] == {}
    monkeypatch.setattr(opening, "LARGE_BYTES", 1000)
    _, report = train("--data", data / "kinds.csv", out="large")
    assert report["settings"]["reading"] == {"block_rows": 65_536}
    _, report = train("--data", data / "kinds.csv", "--drop", "c", out="drop")
    assert report["settings"]["reading"] == {"drop": ["c"], "block_rows": 65_536}
    _, report = train("--data", data / "kinds.csv", "--missing", "mean", out="missing")  # its means need all rows
    assert report["settings"]["reading"] == {"missing": "mean"}


# --- What is held out ------------------------------------------------------------------------------------------------
def test_rows_are_held_out_once_and_by_the_seed(data):
    images = np.load(data / "digits.npy").reshape(N, -1)
    known = {row.tobytes(): number for number, row in enumerate(images)}

    def rows(seed):
        splits = read_splits([data / "digits.npy"], seed, block_rows=700)
        blocks = np.concatenate([splits.train.read(k).images for k in range(splits.train.n_blocks)])
        parts = (blocks, splits.validation.images, splits.test.images)
        return [[known[row.tobytes()] for row in part] for part in parts]

    found = rows(3)
    assert [len(part) for part in found] == [2160, 240, 600]
    assert sorted(np.concatenate(found)) == list(range(N))
    assert found == rows(3)
    assert found != rows(4)


def test_held_out_rows_come_from_a_few_blocks_spread_over_the_data(data, monkeypatch):
    monkeypatch.setattr(splitting, "MOST_ROWS", 10)
    splits = read_splits([data / "digits.npy"], 0, block_rows=30)
    changed = [k for k, length in enumerate(splits.train.block_lengths) if length < 30]
    assert (len(splits.validation), len(splits.test)) == (10, 10)
    assert len(changed) > 5
    assert changed[0] < 20
    assert changed[-1] > 80
    read, reads = BlockedData.read, []
    monkeypatch.setattr(BlockedData, "read", lambda self, k, out=None: reads.append(k) or read(self, k, out))
    read_splits([data / "digits.npy"], 0, block_rows=30)
    assert len(reads) <= 16 < splits.train.n_blocks


def test_sorted_rows_give_validation_data_of_all_classes(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4000, 4), np.uint8))
    np.save(tmp_path / "x.labels.npy", np.repeat(np.arange(10), 400))
    splits = read_splits([tmp_path / "x.npy"], 0, block_rows=10)
    assert set(splits.validation.labels) == set(range(10))


def test_a_second_file_is_the_test_set(data, train, tmp_path):
    np.save(tmp_path / "test.npy", np.load(data / "digits.npy")[:100])
    np.save(tmp_path / "test.labels.npy", np.load(data / "digits.labels.npy")[:100])
    _, report = train("--data", data / "digits.npy", tmp_path / "test.npy", "--memory", "1GB")
    assert [report["data"][part]["samples"] for part in ("train", "validation", "test")] == [2700, 300, 100]


# --- The run ---------------------------------------------------------------------------------------------------------
def test_a_run_learns_and_its_files_show_the_test_set(data, train, tmp_path, capsys):
    found, _ = train("--data", data / "digits.npy", "--block-rows", "500", "--epochs", "20")
    assert found["test_accuracy"] > 0.8
    again = _run(capsys, "evaluate", tmp_path / "run")
    assert again["accuracy"] == found["test_accuracy"]
    assert main(["report", str(tmp_path / "run"), "--quiet"]) == 0
    assert (tmp_path / "run" / "report.html").exists()


def test_the_bits_are_those_of_train_on_the_same_blocks(data, train):
    found, report = train("--data", data / "digits.npy", "--block-rows", "400", "--buffer-blocks", "3", "--seed", "2")
    splits = read_splits([data / "digits.npy"], 2, block_rows=400)
    network = fastnn.Network.for_data(splits.validation, (100,), seed=2)
    names = [name for name in fastnn.TrainingConfig().to_dict() if name in report["settings"]]
    config = fastnn.TrainingConfig.from_dict({name: report["settings"][name] for name in names})
    result = fastnn.train(network, splits.train, validation=splits.validation, config=config)
    assert result.digest() == found["digest"]
    in_memory, _ = train("--data", data / "kinds.csv", out="other")
    assert in_memory["digest"] != found["digest"]


def test_the_code_of_a_run_repeats_it(data, train, capsys):
    settings = ["--data", data / "digits.npy", "--block-rows", "400", "--memory", "20MB", "--buffer-blocks", "2"]
    found, report = train(*settings)
    options = argparse.Namespace(**{**vars(parser().parse_args(["train", *map(str, settings)])), "epochs": 3})
    plan, recorded, _ = planned_run(options)
    code = RunCode(plan, recorded)
    exec(code.python(plan.config, report["backend"]), {})
    assert capsys.readouterr().out.split() == [found["digest"]]
    command = code.command(plan.config, report["backend"])
    assert "--block-rows 400" in command
    assert "--memory 20MB --buffer-blocks 2" in command


@pytest.mark.parametrize("task", ["kinds", "prices"])
def test_tables_have_names_classes_and_standardised_targets(task, data, train, tmp_path, capsys):
    found, report = train("--data", data / f"{task}.csv", "--block-rows", "400", "--epochs", "30")
    model = fastnn.load(tmp_path / "run" / "model.safetensors")
    assert model.feature_names == ("a", "b", "c")
    assert model.classes == (("no", "yes") if task == "kinds" else None)
    assert report["settings"]["standardize"]
    assert found["test_accuracy"] > 0.97 if task == "kinds" else found["test_r2"] > 0.97
    whole = _run(capsys, "evaluate", tmp_path / "run", "--data", data / f"{task}.csv")
    blocks = _run(capsys, "evaluate", tmp_path / "run", "--data", data / f"{task}.csv", "--block-rows", "700")
    for name, expected in whole.items():
        assert blocks[name] == (pytest.approx(expected) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("options", [
    ["--class-weight", "balanced"], ["--augment", "shift=1", "--snapshots", "3"], ["--layers", "conv:3x3,8"],
    ["--members", "2"], ["--patience", "2", "--learning-rate", "auto"], ["--dtype", "float64"],
])  # fmt: skip
def test_other_options_work(options, data, train):
    found, _ = train("--data", data / "digits.npy", "--block-rows", "700", *options)
    assert found["test_accuracy"] > 0.3


def test_a_model_is_trained_further_with_its_classes_and_columns(data, train, tmp_path, capsys):
    train("--data", data / "kinds.csv", "--epochs", "20")
    table = [line.split(",") for line in (data / "kinds.csv").read_text().splitlines()]
    (tmp_path / "turned.csv").write_text("\n".join(",".join([c, a, b, kind]) for a, b, c, kind in table))
    start = ["--from", tmp_path / "run", "--data", tmp_path / "turned.csv", "--block-rows", "700"]
    arguments = ["train", *start, "--epochs", "1", "--learning-rate", "1e-9", "--backend", "numpy", "--quiet"]
    assert _run(capsys, *arguments, "--out", tmp_path / "next")["test_accuracy"] > 0.9
    assert read_report(tmp_path / "next")["last_epoch"]["accuracy"] > 0.9


@pytest.mark.parametrize("settings", [["--dropout", "0.2"], ["--learning-rate", "auto"]])
def test_a_stopped_run_goes_on_within_the_epoch_to_the_same_bits(settings, data, train, tmp_path, stop_after, capsys):
    where = ["--data", data / "digits.h5", "--block-rows", "300", "--buffer-blocks", "2", *settings]
    whole, _ = train(*where, out="whole")
    stop_after(100)  # of 68 batches in an epoch
    assert main(["train", *QUICK, *map(str, where), "--out", str(tmp_path / "stopped")]) == 130
    stop_after(0)
    state = fastnn.load_checkpoint(tmp_path / "stopped")
    assert (state.trainer.epochs, state.trainer.sums.batches > 0) == (1, True)
    capsys.readouterr()
    assert _run(capsys, "train", "--resume", tmp_path / "stopped", "--quiet")["digest"] == whole["digest"]
    repeated = _run(capsys, "train", "--config", tmp_path / "whole", "--quiet", "--out", tmp_path / "again")
    assert repeated["digest"] == whole["digest"]


def test_resuming_notices_other_data(data, train, tmp_path, stop_after, capsys):
    for name in ("digits.npy", "digits.labels.npy"):
        shutil.copy(data / name, tmp_path / name)
    stop_after(100)
    arguments = ["train", *QUICK, "--data", str(tmp_path / "digits.npy"), "--block-rows", "300"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 130
    stop_after(0)
    np.save(tmp_path / "digits.labels.npy", (np.load(tmp_path / "digits.labels.npy") + 1) % 4)
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 1
    assert re.search("the train set of 2,160 samples differs from that of", capsys.readouterr().err)


# --- Evaluation and prediction ---------------------------------------------------------------------------------------
def test_predictions_in_blocks_are_those_of_all_rows(data, train, tmp_path, capsys):
    train("--data", data / "kinds.csv", "--epochs", "20")

    def table(*options):
        assert main(["predict", str(tmp_path / "run"), "--backend", "numpy", "--quiet", *map(str, options)]) == 0
        return capsys.readouterr().out

    def rows(text):
        return [(row["row"], row["prediction"], float(row["probability"])) for row in csv.DictReader(text.splitlines())]

    where = ["--data", data / "kinds.csv"]
    whole, blocks = rows(table(*where)), rows(table(*where, "--block-rows", "700"))
    assert [each[:2] for each in whole] == [each[:2] for each in blocks]
    np.testing.assert_allclose([each[2] for each in blocks], [each[2] for each in whole], atol=2e-6)
    table(*where, "--block-rows", "700", "--out", tmp_path / "out.csv")
    assert rows((tmp_path / "out.csv").read_text()) == blocks
    found = json.loads(table(*where, "--block-rows", "700", "--json"))
    assert [(str(each["row"]), each["prediction"], each["probability"]) for each in found] == blocks
    assert table(*where, "--block-rows", "700", "--id", "Id,Kind").splitlines()[:2] == ["Id,Kind", f"1,{blocks[0][1]}"]
    unlabelled = tmp_path / "unlabelled.csv"
    unlabelled.write_text("\n".join(line.rpartition(",")[0] for line in (data / "kinds.csv").read_text().splitlines()))
    assert rows(table("--data", unlabelled, "--block-rows", "700")) == blocks


@pytest.fixture(scope="module")
def odd(data):
    """Files that need an option: a column of texts, names that are numbers, and images on their side."""
    lines = (data / "kinds.csv").read_text().splitlines()
    parts = [line.rpartition(",") for line in lines]
    texts = ["note", *(f"row {number}" for number in range(N))]
    (data / "notes.csv").write_text("\n".join(f"{a},{text},{b}" for (a, _, b), text in zip(parts, texts, strict=True)))
    (data / "numbers.csv").write_text("\n".join(["0.5,1.5,2.5,no", *lines[1:]]))
    images = np.load(data / "digits.npy")[:, :4]
    np.save(data / "emnist.npy", images)
    np.save(data / "wide.npy", images)
    for name in ("emnist", "wide"):
        np.save(data / f"{name}.labels.npy", np.load(data / "digits.labels.npy"))
    return data


@pytest.mark.parametrize(("name", "options", "other"), [
    ("notes.csv", {"drop": ("note",)}, None),
    ("notes.csv", {"drop": ("note", "b")}, {"drop": ("note",)}),
    ("numbers.csv", {"header": True}, {"header": False}),
    ("numbers.csv", {"header": False}, {"header": True}),
    ("wide.npy", {"transpose": True}, {}),
    ("emnist.npy", {}, {"transpose": False}),
    ("emnist.npy", {"transpose": False}, {}),
], ids=lambda each: each if isinstance(each, str) else "-".join(each or ()))  # fmt: skip
def test_options_of_files_select_the_rows_of_memory(name, options, other, odd, train, tmp_path, capsys):
    def rows(**options):
        splits = read_splits([odd / name], 0, block_rows=700, **options)
        parts = [*(splits.train.read(k) for k in range(splits.train.n_blocks)), splits.validation, splits.test]
        table = np.concatenate([np.column_stack([part.images, part.labels]) for part in parts])
        return table[np.lexsort(table.T)], splits.train.image_shape, splits.train.feature_names

    # In memory, the labels of an array are named; in blocks, they are found beside it.
    files = [odd / name, *([odd / name.replace(".npy", ".labels.npy")] if name.endswith(".npy") else [])]
    whole, _ = fastnn.read_files(files, **options)
    found, shape, names = rows(**options)
    expected = np.column_stack([whole.images, whole.labels])
    np.testing.assert_array_equal(found, expected[np.lexsort(expected.T)])
    assert (shape, names) == (whole.image_shape, whole.feature_names)
    if other is not None:
        assert not np.array_equal(rows(**other)[0], found)

    given = []
    for key, value in options.items():
        given += [f"--{'' if value else 'no-'}{key}"] if isinstance(value, bool) else [f"--{key}", *value]
    _, report = train("--data", odd / name, "--memory", "1GB", *given)
    assert report["settings"]["reading"] == {"block_rows": 65_536, **json.loads(json.dumps(options))}
    how = [tmp_path / "run", "--backend", "numpy", *given]
    in_blocks = ["--data", odd / name, "--block-rows", "700"]
    answers = [_run(capsys, "predict", *how, *where) for where in (["--data", odd / name], in_blocks)]
    assert len(answers[0]) == len(whole)
    assert [each["prediction"] for each in answers[0]] == [each["prediction"] for each in answers[1]]
    scores = [_run(capsys, "evaluate", *how, *where) for where in (["--data", *files], in_blocks)]
    assert scores[0]["confusion"] == scores[1]["confusion"]


def test_prediction_reads_each_block_once_and_no_labels(data, train, tmp_path, capsys, monkeypatch):
    train("--data", data / "digits.npy", "--memory", "1GB")
    reads, read = [], BlockedData.read
    monkeypatch.setattr(BlockedData, "read", lambda self, k, out=None: reads.append(k) or read(self, k, out))
    monkeypatch.setattr(BlockedData, "_scan", lambda self: pytest.fail("the labels were read"))
    assert main(["predict", str(tmp_path / "run"), "--data", str(data / "digits.npy"), "--block-rows", "700"]) == 0
    assert sorted(reads) == [0, 0, 1, 2, 3, 4]  # the first rows tell the backend
    assert len(capsys.readouterr().out.splitlines()) == N + 1
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(data / "digits.npy"), "--block-rows", "700"]) == 0
    assert "3,000 samples" in capsys.readouterr().out


def test_a_pattern_and_several_files_are_one_data_set(data, train, tmp_path, capsys):
    train("--data", data / "part-?.npy")
    one = _run(capsys, "evaluate", tmp_path / "run", "--data", data / "digits.npy", "--block-rows", "1500")
    parts = ["--data", data / "part-0.npy", data / "part-1.npy", "--block-rows", "1500"]
    for options in (["--data", data / "part-?.npy"], parts):
        assert _run(capsys, "evaluate", tmp_path / "run", *options) == one


# --- Errors ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "--memory", "1GB"], "--memory is for the files of --data, which is not given"),
    (["train", "--recipe", "digits", "--block-rows", "9"], "--block-rows is for the files of --data"),
    (["train", "--data", "digits.npy", "--memory", "much"], "memory is 'much', expected a number of bytes"),
    (["train", "--data", "digits.npy", "--memory", "9kB"], "memory is '9kB', but buffers of one block of 2,160 rows"),
    (["train", "--data", "digits.npy", "--block-rows", "0"], "--block-rows is 0, expected a whole number"),
    (["train", "--data", "kinds.csv", "--memory", "1GB", "--missing", "mean"], "--missing mean needs the mean of each"),
    (["train", "--data", "kinds.csv", "--memory", "1GB", "--drop", "d"], "drop is 'd', but the table has the columns"),
    (["train", "--data", "digits.npy", "--memory", "1GB", "--drop", "a"], "drop is .* has no columns with names"),
    (["train", "--data", "digits.h5", "--header"], "header is True, but .* has no columns with names"),
    (["train", "--data", "prices.csv", "--memory", "1GB", "--transpose"], "found 3 columns that are no images"),
    (["train", "--data", "a.npy", "b.npy", "c.npy", "--memory", "1GB"], "3 files .* for data in blocks, expected"),
    (["train", "--data", "none-*.npy"], "no file has such a name"),
    (["train", "--data", "digits.npy", "--memory", "1GB", "--label", "none"], "has no labels, expected some"),
    (["train", "--data", "digits.npy", "kinds.csv", "--memory", "1GB"], "found 3 columns of inputs, expected"),
    (["train", "--data", "digits.npy", "--memory", "1GB", "--optimizer", "lbfgs"], "optimizer is lbfgs with data"),
    (["train", "--data", "digits.npy", "--memory", "1GB", "--batch-size", "full"], "batch_size is None with data"),
    (["sweep", "--data", "digits.npy", "--out", "s", "--memory", "1GB"], "unknown option --memory"),
    (["sweep", "--data", "digits.h5", "--out", "s"], "digits.h5: found an HDF5 file"),
    (["evaluate", "M", "--data", "digits.npy", "--block-rows", "x"], "invalid int value: 'x'"),
])  # fmt: skip
def test_wrong_arguments_give_one_line_and_leave_nothing(arguments, message, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = [str(data / each) if each.endswith((".npy", ".csv", ".h5")) else each for each in arguments]
    try:
        code = main([*paths, "--quiet"])
    except SystemExit as error:
        code = error.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code in (1, 2)
    assert re.search(message, lines[-1])
    assert len(lines) == 1
    assert not list(tmp_path.iterdir())
