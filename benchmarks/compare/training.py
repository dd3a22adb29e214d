"""Training as a whole, epoch by epoch, and the changes of the weights in its first steps."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.compare.problems import Problem

Arrays = tuple[list[np.ndarray], list[np.ndarray]]  # weights, biases


def changes(run: Any, problem: Problem) -> dict[str, np.ndarray]:
    """Train for the first `check_steps` steps and return what they changed, by the name of each array.

    `run` is a contender's `epoch`, with the initial weights.
    """
    case, order = problem.case, problem.order(0)
    assert order is not None
    run(order[: case.check_steps * problem.batch_size], case.learning_rate)
    found = {}
    for kind, initial, trained in zip(
        ("weight", "bias"), (problem.weights, problem.biases), run.weights(), strict=True
    ):
        for number, (before, after) in enumerate(zip(initial, trained, strict=True)):
            found[f"{kind}_{number}"] = np.asarray(after, np.float64) - before
    return found


def prepare(module: Any, problem: Problem, threads: int) -> Callable[[], Arrays]:
    """Return a callable that trains for all epochs of the case.

    fastnn has a function `train` for that. The other contenders have their model, with the initial weights, and their
    data before they are timed.
    """
    if hasattr(module, "train"):
        return module.train(problem, threads)
    run, case = module.epoch(problem, threads), problem.case

    def train() -> Arrays:
        for epoch, factors in enumerate(case.factors):
            order = problem.order(epoch)
            assert order is not None
            n_batches, first = -(-len(order) // problem.batch_size), 0
            for part, factor in enumerate(factors, start=1):
                stop = n_batches * part // len(factors) * problem.batch_size
                if stop > first:
                    run(order[first:stop], case.learning_rate * factor)
                first = stop
        return run.weights()

    return train


def accuracy(module: Any, problem: Problem, trained: Arrays, threads: int) -> float:
    """Return the accuracy of a trained network on the test images, predicted by the contender itself."""
    test = problem.on_test_images(*trained)
    return float(np.mean(module.predict(test, threads)().argmax(axis=1) == test.labels))
