"""Print the accuracy of the recipes, mean and standard deviation over seeds, as the README's Markdown table.

    python -m benchmarks.accuracy [--seeds N] [--recipe NAME ...]

The default recipe runs on both backends, the others on the Numba backend only.
"""

import argparse
import time

import numpy as np

from fastnn.evaluation.evaluate import evaluate
from fastnn.network import Network
from fastnn.runs.recipes import RECIPES, get_recipe
from fastnn.training.train import train

REPORTED = {"A": '"high accuracy"', "B": '"reliable accuracy"', "C": "88.30 %", "D": "about 90 %", "E": "93.06 to 95 %"}


def measure(name: str, seeds: int, backend: str) -> tuple[np.ndarray, float]:
    """Return the accuracy of each seed and the mean training time in seconds."""
    recipe, accuracies, seconds = get_recipe(name), [], []
    for seed in range(seeds):
        splits = recipe.load(seed)
        network = Network.for_data(splits.train, recipe.hidden_layers, seed=seed)
        start = time.perf_counter()
        result = train(network, splits.train, seed=seed, backend=backend, **recipe.settings)
        seconds.append(time.perf_counter() - start)
        accuracies.append(evaluate(result.network, splits.test, backend=backend)[1])
    return np.array(accuracies), float(np.mean(seconds))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--recipe", nargs="+", default=list(RECIPES), help="recipes to run (default: all)")
    options = parser.parse_args()
    print("| recipe | network | test set | backend | accuracy, mean ± sd | reported by the original |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.recipe:
        recipe = get_recipe(name)
        mark = recipe.letter or ("default" if name == "mnist" else "")
        label = f"{recipe.name} ({mark})" if mark else recipe.name
        inputs = 64 if recipe.data == "digits" else 784
        sizes = recipe.layers or "-".join(map(str, (inputs, *recipe.hidden, 10)))
        test_set = "MNIST's 10,000 test images" if recipe.tested_on == "test" else "held-out samples"
        for backend in ("numba", "numpy") if name == "mnist" else ("numba",):
            found, _ = measure(name, options.seeds, backend)
            accuracy = f"{found.mean():.2%} ± {found.std(ddof=1):.2%}".replace("%", " %")
            reported = REPORTED.get(recipe.letter, "")
            print(f"| {label} | {sizes} | {test_set} | {backend} | {accuracy} | {reported} |", flush=True)


if __name__ == "__main__":
    main()
