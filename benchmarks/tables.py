"""Compares `fastnn train --data FILE`, with no other option, with scikit-learn's MLP behind a StandardScaler.

Ten data sets that come with scikit-learn or are made, written as users have them: CSV, NPZ, svmlight, Parquet and a
folder of pictures. Both learn from the same samples and are scored on the same others: accuracy, or R2.
Run `python -m benchmarks.tables`; `--only NAME` for some, `--seeds N` for fewer seeds.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse
from sklearn import datasets
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn.cli import main
from fastnn.datasets.splits import split_files

# The largest difference from scikit-learn that counts as equal, in accuracy or R2.
CLOSE = 0.02


def _frame(load: Callable[..., Any], folder: Path, name: str, **options: Any) -> Path:
    bunch = load(as_frame=True)
    frame = bunch.frame
    if options.get("words"):
        frame["target"] = bunch.target_names[bunch.target]
    path = folder / f"{name}.csv"
    frame.to_csv(path, index=options.get("index", False), sep=options.get("sep", ","))
    return path


def _moons(folder: Path) -> Path:
    inputs, labels = datasets.make_moons(1000, noise=0.25, random_state=0)
    np.savez(folder / "moons.npz", data=inputs, target=labels)
    return folder / "moons.npz"


def _text(folder: Path) -> Path:
    """Write 20 classes of text: words by Zipf's law, 60 of them 15 times as frequent in each class, as tf-idf rows."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, 5001)
    topics = []
    for _ in range(20):
        weight = frequency.copy()
        weight[rng.choice(5000, 60, replace=False)] *= 15
        topics.append(weight / weight.sum())
    labels = rng.integers(0, 20, 3000)
    counts = csr_matrix(np.array([rng.multinomial(rng.integers(30, 200), topics[label]) for label in labels]))
    datasets.dump_svmlight_file(TfidfTransformer().fit_transform(counts), labels, str(folder / "text.svmlight"))
    return folder / "text.svmlight"


def _houses(folder: Path) -> Path:
    """Write a table like California's houses: eight numbers of different ranges, and a noisy price of at most 5."""
    rng = np.random.default_rng(0)
    n = 20_640
    latitude = rng.choice([34, 37.5], n) + rng.normal(0, 0.8, n)
    longitude = -119.5 + (36 - latitude) * 0.9 + rng.normal(0, 0.7, n)
    frame = pd.DataFrame(
        {
            "MedInc": rng.lognormal(1.25, 0.45, n),
            "HouseAge": rng.integers(1, 53, n),
            "AveRooms": rng.lognormal(1.65, 0.25, n),
            "AveBedrms": rng.lognormal(0.07, 0.12, n),
            "Population": rng.lognormal(6.9, 0.7, n).round(),
            "AveOccup": rng.lognormal(1.05, 0.25, n),
            "Latitude": latitude,
            "Longitude": longitude,
        }
    )
    near = [np.exp(-((latitude - y) ** 2 + (longitude - x) ** 2)) for y, x in ((34, -118.2), (37.7, -122.3))]
    price = 0.42 * frame.MedInc + 0.008 * frame.HouseAge - 0.25 * np.log(frame.AveOccup) + 0.6 * near[0] + 0.9 * near[1]
    price += 1.5 * frame.AveBedrms / frame.AveRooms + 0.15 * np.sin(3 * latitude) + rng.normal(0, 0.35, n)
    frame["MedHouseVal"] = np.clip(price, 0.15, 5.0)
    frame.to_csv(folder / "houses.csv", index=False)
    return folder / "houses.csv"


def _kaggle(folder: Path) -> Path:
    train, _ = fastnn.load_mnist()
    table = np.column_stack([train.labels[:6000], train.images[:6000]])
    header = ",".join(["label", *(f"pixel{place}" for place in range(784))])
    np.savetxt(folder / "train.csv", table, "%d", ",", header=header, comments="")
    return folder / "train.csv"


def _pictures(folder: Path) -> Path:
    from PIL import Image

    _, test = fastnn.load_mnist()
    for row in range(2000):
        path = folder / "pictures" / str(test.labels[row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.images[row].reshape(28, 28)).save(path)
    return folder / "pictures"


SETS: dict[str, Callable[[Path], Path]] = {
    "iris": lambda folder: _frame(datasets.load_iris, folder, "iris", words=True),
    "wine": lambda folder: _frame(datasets.load_wine, folder, "wine", index=True),
    "breast cancer": lambda folder: _frame(datasets.load_breast_cancer, folder, "cancer", sep=";"),
    "diabetes": lambda folder: _frame(datasets.load_diabetes, folder, "diabetes"),
    "digits": lambda folder: _frame(datasets.load_digits, folder, "digits"),
    "moons": _moons,
    "text": _text,
    "houses": _houses,
    "Kaggle's MNIST": _kaggle,
    "pictures": _pictures,
}


def run_command(path: Path, seed: int, folder: Path) -> dict[str, Any]:
    """Run `fastnn train --data path --seed seed`; return its result."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as errors:
        arguments = ["train", "--data", str(path), "--seed", str(seed), "--json", "--out", str(folder)]
        if main(arguments):
            raise RuntimeError(errors.getvalue())
    result: dict[str, Any] = json.loads(out.getvalue())
    return result


def score_of_peer(path: Path, seed: int) -> float:
    """Return the score of scikit-learn on the test set of the command, trained on all other samples."""
    splits = split_files([path], seed)
    parts = [splits.train, splits.validation]
    sparse = issparse(splits.train.images)
    if sparse:
        from scipy.sparse import vstack

        inputs = vstack([part.images for part in parts]).tocsr()
    else:
        inputs = np.concatenate([part.images for part in parts]).astype(np.float64)
    labels = np.concatenate([part.labels for part in parts])
    model = MLPRegressor if splits.train.has_targets else MLPClassifier
    peer = make_pipeline(StandardScaler(with_mean=not sparse), model(random_state=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(inputs, labels.ravel())
    return float(peer.score(splits.test.images, splits.test.labels.ravel()))


def compare(only: list[str] | None, seeds: int) -> bool:
    """Print a line for each data set; return whether fastnn is close or better in the mean over the seeds for each."""
    print(f"{'data set':16} {'fastnn':>16} {'scikit-learn':>16}  difference", flush=True)
    all_close = True
    with tempfile.TemporaryDirectory() as name:
        for title in only or SETS:
            folder = Path(name, title)
            folder.mkdir()
            path = SETS[title](folder)
            mine, peer = [], []
            for seed in range(seeds):
                result = run_command(path, seed, folder / f"run-{seed}")
                mine.append(result.get("test_accuracy", result.get("test_r2")))
                peer.append(score_of_peer(path, seed))
            difference = float(np.mean(mine) - np.mean(peer))
            all_close &= difference >= -CLOSE
            texts = [f"{np.mean(scores):.3f} +- {np.std(scores):.3f}" for scores in (mine, peer)]
            print(f"{title:16} {texts[0]:>16} {texts[1]:>16}  {difference:+.3f}", flush=True)
    return all_close


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    os.environ.pop("OPENBLAS_CORETYPE", None)
    raise SystemExit(0 if compare(options.only, options.seeds) else 1)
