"""A whole program: load MNIST, train, print the accuracy on the test images.

    python -m benchmarks.start_to_accuracy CONTENDER FILE.npz EPOCHS THREADS [CHECKOUT]

After the timed part, a second line names the kernels that ran, as JSON.

Peers train and predict with the same code as in the epoch cases. fastnn uses its public functions. The contender
"fastnn" reads the same file as the peers; "fastnn-bundled" reads the compressed files that ship with fastnn.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.compare.cases import CASES
from benchmarks.compare.checkout import check_origin
from benchmarks.compare.contenders import CONTENDERS
from benchmarks.compare.environment import ROOT
from benchmarks.compare.kernels import loaded_kernels

CASE = CASES["start"]


def falling(epoch: int, epochs: int) -> float:
    """Return the factor on the learning rate: a straight line from 1 towards 0."""
    return 1 - epoch / epochs


def _fastnn(contender: str, path: str, epochs: int, threads: int) -> float:
    import fastnn

    train, test = fastnn.load_mnist() if contender.endswith("-bundled") else fastnn.read_npz(path)
    assert test is not None
    result = fastnn.train(
        fastnn.Network.initialize(CASE.sizes, input_scale=1 / train.pixel_max),
        train,
        epochs=epochs,
        batch_size=CASE.batch_size,
        learning_rate=CASE.learning_rate,
        schedule=falling,
        optimizer=CASE.optimizer,
        threads=threads,
    )
    return fastnn.evaluate(result.network, test)[1]


def _peer(contender: str, path: str, epochs: int, threads: int) -> float:
    import numpy as np

    from benchmarks.compare.problems import Problem
    from benchmarks.compare.worker import load

    module = load(contender)
    with np.load(path) as file:
        train, test = (file[f"x_{part}"].reshape(-1, 784) / np.float32(255) for part in ("train", "test"))
        labels, test_labels = file["y_train"].astype(np.int64), file["y_test"]
    problem = Problem(CASE, Path())
    # A cached property is stored in the object's __dict__. These entries replace the files of the epoch cases.
    problem.__dict__.update(scaled=train, labels=labels)
    run = module.epoch(problem, threads)
    for epoch in range(epochs):
        run(problem.order(epoch), CASE.learning_rate * falling(epoch, epochs))
    weights, biases = run.weights()
    trained = replace(problem)
    trained.__dict__.update(scaled=test, labels=test_labels, weights=weights, biases=biases)
    return float(np.mean(module.predict(trained, threads)().argmax(axis=1) == test_labels))


def main(contender: str, path: str, epochs: int, threads: int, checkout: Path = ROOT) -> None:
    """Train, print the accuracy, then print the kernels that ran."""
    is_fastnn = CONTENDERS[contender].library == "fastnn"
    print((_fastnn if is_fastnn else _peer)(contender, path, epochs, threads), flush=True)
    if is_fastnn:
        check_origin(checkout)
    print(json.dumps(loaded_kernels()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *map(Path, sys.argv[5:]))
