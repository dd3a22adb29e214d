"""Train recipes over seeds, print a table of their accuracy as Markdown, and draw test errors against seconds.

    python -m benchmarks.accuracy                                       all recipes, 10 seeds each: most of a day
    python -m benchmarks.accuracy --recipe mnist --peers                beside scikit-learn's and PyTorch's same network
    python -m benchmarks.accuracy --recipe one-minute --members 3       the mean of three networks
    python -m benchmarks.accuracy --recipe one-minute --data FOLDER     other data, such as Fashion-MNIST's IDX files

Each run is written to `accuracy.jsonl` in the folder of `--out` when it ends. A run that is there, with the same
settings, is not repeated. Test images are read once by each run, at its end. Times are those of training on this
machine; they mean something only if nothing else runs.

The peers have the network, epochs, batch size, optimizer, learning rates, dropout and label smoothing of the recipe
where they have such a setting. They train on the images as they are: neither has elastic distortions. scikit-learn's
learning rate is constant, or PyTorch's default for Adam, and dropout and convolutions are missing.
"""

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from benchmarks.compare.chart import STYLES as PEERS
from fastnn.datasets.splits import Splits, split_files
from fastnn.models import as_model
from fastnn.network.layers import BatchNorm, Conv2D, Dense, Layer
from fastnn.optim.optimizers import Adam
from fastnn.runs.recipes import RECIPES, Recipe, get_recipe

# The name, the colour and the marker of each contender. Peers have the colours of the other charts.
STYLES = {
    "fastnn": ("fastnn", "#000000", "o"),
    "fastnn-numpy": ("fastnn, NumPy", PEERS["numpy"][1], "v"),
    "scikit-learn": (*PEERS["scikit-learn"][:2], "s"),
    "torch": (*PEERS["torch"][:2], "^"),
}


@dataclass(frozen=True)
class Trained:
    """A run that has ended."""

    recipe: str
    settings: str  # the digest of the recipe's network and settings, and of the data
    contender: str
    members: int
    seed: int
    tested: int  # the number of test samples
    wrong: int  # how many of them are misclassified
    seconds: float  # of training


# --- Contenders ---
def train_fastnn(recipe: Recipe, splits: Splits, seed: int, backend: str) -> tuple[fastnn.Network, float]:
    """Return the trained network, and the seconds of training without those of compiling."""
    network = fastnn.Network.for_data(splits.train, recipe.hidden_layers, seed=seed)
    settings: dict[str, Any] = {**recipe.settings, "seed": seed, "backend": backend}
    few = splits.train.take(np.arange(2 * (recipe.config.batch_size or 64)))
    fastnn.train(network, few, **{**settings, "epochs": 1})  # compiles, or loads what has been compiled
    start = time.perf_counter()
    result = fastnn.train(network, splits.train, **settings)
    return result.network, time.perf_counter() - start


def train_sklearn(recipe: Recipe, splits: Splits, seed: int) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Return the predictions of scikit-learn's MLPClassifier as a function, and the seconds of training."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    config = recipe.config.with_default_rate(1, len(splits.train))
    is_adam = isinstance(config.update_rule, Adam)
    rate = {} if is_adam else {"learning_rate_init": config.learning_rate}
    scaled = splits.train.images / np.float32(splits.train.pixel_max)
    model = MLPClassifier(
        recipe.hidden, solver="adam" if is_adam else "sgd", momentum=getattr(config.update_rule, "momentum", 0.0),
        batch_size=config.batch_size or len(scaled), max_iter=config.epochs, n_iter_no_change=config.epochs,
        random_state=seed, **rate,
    )  # fmt: skip
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is that of the recipe
        model.fit(scaled, splits.train.labels)
    seconds = time.perf_counter() - start
    return lambda images: model.predict(images / np.float32(splits.train.pixel_max)), seconds


def train_torch(recipe: Recipe, splits: Splits, seed: int) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """Return the predictions of the same network in PyTorch as a function, and the seconds of training."""
    import torch

    torch.manual_seed(seed)
    network = fastnn.Network.for_data(splits.train, recipe.hidden_layers, seed=seed)
    config = recipe.config.with_default_rate(sum(each.ndim > 1 for each in network.weights) - 1, len(splits.train))
    is_flat = all(isinstance(layer, Dense) for layer in network.layers)
    shape = (-1, network.n_inputs) if is_flat else (-1, *network.input_shape)
    model = torch.nn.Sequential(*torch_modules(network, config.dropout))
    rule = config.update_rule
    if isinstance(rule, Adam):
        optimizer: Any = torch.optim.Adam(model.parameters(), betas=(rule.beta1, rule.beta2), eps=rule.epsilon)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=getattr(rule, "momentum", 0.0))
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    scaled = lambda images: torch.from_numpy(images / np.float32(splits.train.pixel_max)).view(shape)  # noqa: E731
    inputs, labels = scaled(splits.train.images), torch.from_numpy(splits.train.labels.astype(np.int64))
    size, start = config.batch_size or len(labels), time.perf_counter()
    for epoch in range(config.epochs):
        for group in optimizer.param_groups:
            group["lr"] = config.rate(epoch, config.epochs)
        for rows in torch.randperm(len(labels)).split(size):
            optimizer.zero_grad(set_to_none=True)
            loss_of(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    model.eval()

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([model(part).argmax(1).numpy() for part in scaled(images).split(1000)])

    return predict, seconds


def torch_modules(network: fastnn.Network, dropout: float | tuple[float, ...]) -> list[Any]:
    """Return the modules of a network. Only layers of the recipes are known."""
    from torch import nn

    activations: dict[str, Callable[[], Any]] = {"relu": nn.ReLU, "identity": nn.Identity, "tanh": nn.Tanh}
    modules: list[Any] = []
    hidden_rate = dropout[-1] if isinstance(dropout, tuple) else dropout
    if isinstance(dropout, tuple):
        modules.append(nn.Dropout(dropout[0]))
    shape: tuple[int, ...] = network.shapes[0]
    for layer, output in zip(network.layers, network.shapes[1:], strict=True):
        if isinstance(layer, Dense):
            modules += [nn.Flatten()] if len(shape) == 3 else []
            modules += [nn.Dropout(hidden_rate)] if hidden_rate and layer is not network.layers[0] else []
            modules.append(nn.Linear(math.prod(shape), output[0]))
        elif isinstance(layer, Conv2D):
            modules.append(nn.Conv2d(shape[0], output[0], layer.kernel, layer.stride, layer.padding))
        elif isinstance(layer, BatchNorm):
            modules.append(nn.BatchNorm1d(output[0]))
        else:
            modules.append(nn.MaxPool2d(layer.size, layer.stride))
        shape = output
        if layer is network.layers[-1]:
            break
        modules.append(activations[layer.activation]())
    return modules


# --- Runs ---
def run(
    recipe: Recipe, load: Callable[[int], Splits], contender: str, members: int, seed: int
) -> tuple[int, int, float]:
    """Return the number of test samples, how many are misclassified, and the seconds of training."""
    splits = load(seed)
    if contender.startswith("fastnn"):
        backend = "numpy" if contender.endswith("numpy") else "numba"
        seeds = range(seed * members, (seed + 1) * members)
        networks, seconds = zip(*(train_fastnn(recipe, splits, each, backend) for each in seeds), strict=True)
        predict = as_model(networks[0] if members == 1 else fastnn.Ensemble.of(networks)).predict
        return len(splits.test), n_wrong(predict, splits.test), sum(seconds)
    train = train_sklearn if contender == "scikit-learn" else train_torch
    predict, duration = train(recipe, splits, seed)
    return len(splits.test), n_wrong(predict, splits.test), duration


def n_wrong(predict: Callable[[np.ndarray], np.ndarray], test: fastnn.Dataset) -> int:
    """Return the number of test samples that are misclassified."""
    return int((predict(test.images) != test.labels).sum())


def settings_digest(recipe: Recipe, data: str | None) -> str:
    """Return a digest of all that determines the runs of a recipe, besides the seed."""
    facts = [recipe.data, recipe.held_out, recipe.hidden, recipe.layers, recipe.config.to_dict(), data]
    return sha256(json.dumps(facts, default=str).encode()).hexdigest()[:12]


def layers_text(recipe: Recipe) -> str:
    """Return the network of a recipe, such as "784-128-10" or "6C5-P-16C5-P-120-84-10", without normalisations."""
    layers = [layer for layer in recipe.hidden_layers if not isinstance(layer, BatchNorm)]
    is_flat = all(isinstance(layer, int | Dense) for layer in layers)
    inputs = ["64" if recipe.data == "digits" else "784"] if is_flat else []
    return "-".join([*inputs, *map(_layer_text, layers), "10"])


def _layer_text(layer: int | Layer) -> str:
    if isinstance(layer, int):
        return str(layer)
    if isinstance(layer, Conv2D):
        kernel = layer.kernel if isinstance(layer.kernel, int) else layer.kernel[0]
        return f"{layer.channels}C{kernel}"
    return str(layer.units) if isinstance(layer, Dense) else "P"


# --- What is shown ---
def intervals(runs: list[Trained]) -> tuple[float, float, float]:
    """Return in percent: the mean error, its standard deviation over seeds, and the binomial spread of one run's error.

    The last is the standard deviation of the error on as many test samples, each misclassified with the mean error.
    """
    errors = np.array([each.wrong / each.tested for each in runs])
    mean = errors.mean()
    spread = errors.std(ddof=1) if len(errors) > 1 else math.nan
    return 100 * mean, 100 * spread, 100 * math.sqrt(mean * (1 - mean) / runs[0].tested)


def table(groups: Iterable[list[Trained]]) -> str:
    """Return the table as Markdown."""
    lines = [
        "| recipe | network | trained by | test set | seeds | accuracy, mean ± sd | training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for runs in groups:
        recipe, first = get_recipe(runs[0].recipe), runs[0]
        mark = recipe.letter or ("default" if recipe.name == "mnist" else "")
        name = f"{recipe.name} ({mark})" if mark else recipe.name
        name += f", mean of {first.members}" if first.members > 1 else ""
        mean, spread, _ = intervals(runs)
        test = f"{first.tested:,} {'test images' if recipe.tested_on == 'test' else 'held-out samples'}"
        seconds = float(np.median([each.seconds for each in runs]))
        cells = [name, layers_text(recipe), STYLES[first.contender][0], test, str(len(runs))]
        cells += [f"{100 - mean:.2f} % ± {spread:.2f} %", f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(groups: list[list[Trained]], path: Path) -> None:
    """Draw the mean error against the seconds, with the spread over seeds (thick) and the binomial one (thin)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes, named = figure.add_subplot(), set()
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for runs in groups:
        label, colour, marker = STYLES[runs[0].contender]
        mean, spread, binomial = intervals(runs)
        seconds = float(np.median([each.seconds for each in runs]))
        axes.errorbar(seconds, mean, yerr=1.96 * binomial, color=colour, linewidth=0.8, capsize=2)
        axes.errorbar(
            seconds, mean, yerr=spread, color=colour, marker=marker, markersize=6, linewidth=3,
            label=None if label in named else label,
        )  # fmt: skip
        named.add(label)
        name = runs[0].recipe + (f" x {runs[0].members}" if runs[0].members > 1 else "")
        axes.annotate(name, (seconds, mean), xytext=(7, 3), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
    axes.set_yticks([each for each in (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if _within(each, axes.get_ylim())])
    axes.set_xlabel("seconds of training on this machine")
    axes.set_ylabel("test error in %")
    axes.grid(which="major", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    axes.margins(x=0.12)  # room for the last name
    title = "Means over seeds. Thick: standard deviation over seeds; thin: 95 % of all tests on as many samples"
    axes.set_title(title, fontsize=9, loc="left")
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def contenders_of(recipe: Recipe, options: argparse.Namespace) -> list[str]:
    """Return who trains a recipe."""
    found = ["fastnn", *(["fastnn-numpy"] if "numpy" in options.backend else [])]
    found = found if "numba" in options.backend else found[1:]
    if options.peers:
        found += ["scikit-learn"] if recipe.hidden else []
        found.append("torch")
    return found


def main() -> None:
    """Train what is missing, then print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="+", default=list(RECIPES), help="recipes to train (default: all)")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds (default: %(default)s)")
    parser.add_argument("--members", type=int, default=1, help="networks whose mean predicts (default: %(default)s)")
    parser.add_argument("--backend", nargs="+", choices=("numba", "numpy"), default=["numba"])
    parser.add_argument("--peers", action="store_true", help="train scikit-learn's and PyTorch's same network, too")
    parser.add_argument("--data", help="files in the place of the recipes' data, as of `fastnn train`")
    parser.add_argument("--out", type=Path, default=Path("build/accuracy"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    journal = options.out / "accuracy.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    known = [Trained(**json.loads(line)) for line in lines]
    groups = []
    for recipe in map(get_recipe, options.recipe):
        load = recipe.load if options.data is None else lambda seed: split_files([options.data], seed)
        digest = settings_digest(recipe, options.data)
        for contender in contenders_of(recipe, options):
            members = options.members if contender.startswith("fastnn") else 1
            key = (recipe.name, digest, contender, members)
            found = {r.seed: r for r in known if (r.recipe, r.settings, r.contender, r.members) == key}
            for seed in range(options.seeds):
                if seed not in found:
                    found[seed] = Trained(*key, seed, *run(recipe, load, contender, members, seed))
                    with journal.open("a", encoding="utf-8") as file:
                        print(json.dumps(asdict(found[seed])), file=file)
            groups.append([found[seed] for seed in range(options.seeds)])
            print(table(groups[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(groups)}")
    draw(groups, options.out / "accuracy.png")


if __name__ == "__main__":
    main()
