"""Print how well photographs of digits are read, for each kind of ground.

    python -m benchmarks.photos MODEL [--digits N] [--seed SEED] [--ground NAME ...]

MODEL is a model or run folder of `fastnn train`. The digits are those that the default run
holds out of training. A refusal is a `DataError`;
"wrong, sure" are wrong answers with a probability above 90 %. The last line counts the pictures of two or three digits
that are noticed, and those whose digits are counted correctly.
"""

import argparse
import zlib
from collections.abc import Iterator

import numpy as np

import fastnn
from benchmarks.grounds import GROUNDS, placed


def rendered(name: str, digits: fastnn.Dataset, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield pictures of the digits on a ground, and their labels. The random numbers depend on the ground's name."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    for image, label in zip(digits.images, digits.labels, strict=True):
        ink = placed(rng, [image.reshape(28, 28)])
        yield GROUNDS[name](rng, ink), int(label)


def read(network: fastnn.Network, picture: np.ndarray) -> tuple[int, float]:
    """Return the predicted class and its probability; class -1 for a picture that is refused."""
    try:
        row = fastnn.prepare_image(picture)
    except fastnn.DataError:
        return -1, 0.0
    probabilities = fastnn.get_backend("numpy").predict_proba(network, row.reshape(1, 784))[0]
    return int(probabilities.argmax()), float(probabilities.max())


def pairs(digits: fastnn.Dataset, seed: int) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield pictures of two or three digits side by side on plain or ruled paper, and their labels."""
    rng = np.random.default_rng([seed, 2])
    for number in range(len(digits)):
        rows = rng.integers(len(digits), size=2 + number % 3 // 2)
        ink = placed(rng, [digits.images[row].reshape(28, 28) for row in rows], height=(90, 180))
        name = ("plain noisy paper", "ruled paper", "a hard shadow")[number // 3 % 3]
        yield GROUNDS[name](rng, ink), [int(digits.labels[row]) for row in rows]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model or run folder")
    parser.add_argument("--digits", type=int, default=200, help="digits on each ground (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the digits and grounds (default: 0)")
    parser.add_argument("--ground", nargs="+", default=list(GROUNDS), help="grounds (default: all)")
    options = parser.parse_args()
    network = fastnn.load(options.model).network
    unseen = fastnn.get_recipe("mnist").load().validation
    digits = unseen.take(np.random.default_rng(options.seed).choice(len(unseen), options.digits, replace=False))
    print("| ground | correct | refused | wrong | wrong, sure |")
    print("| --- | --- | --- | --- | --- |")
    for name in options.ground:
        answers = [(*read(network, picture), label) for picture, label in rendered(name, digits, options.seed)]
        classes, sure, labels = (np.array(column) for column in zip(*answers, strict=True))
        wrong = (classes != labels) & (classes >= 0)
        shares = [classes == labels, classes < 0, wrong, wrong & (sure > 0.9)]
        print(f"| {name} | {' | '.join(f'{share.mean():.1%}'.replace('%', ' %') for share in shares)} |", flush=True)
    print(f"\n{_noticed(digits, options.seed)}")


def _noticed(digits: fastnn.Dataset, seed: int) -> str:
    """Return how many pictures of several digits are noticed, as a sentence."""
    counts = []
    for picture, labels in pairs(digits, seed):
        try:
            counts.append((len(fastnn.prepare_images(picture)), len(labels)))
        except fastnn.DataError:
            counts.append((0, len(labels)))
    found, expected = np.array(counts).T
    counted = (found == expected).sum()
    return (
        f"Of {len(counts)} pictures of 2 or 3 digits, {(found != 1).sum()} are noticed and {counted} counted correctly."
    )


if __name__ == "__main__":
    main()
