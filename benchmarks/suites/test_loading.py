"""Reading data: the bundled MNIST, and files of each format."""

import gzip

import numpy as np
import pytest

import fastnn

ROWS = 5_000


@pytest.fixture(scope="session")
def files(mnist, tmp_path_factory):
    """Return a folder with the same samples as CSV, NPZ and IDX files."""
    folder = tmp_path_factory.mktemp("data")
    images, labels = mnist.images[:ROWS], mnist.labels[:ROWS]
    np.savetxt(folder / "digits.csv", np.column_stack([labels, images]), fmt="%d", delimiter=",")
    np.savez(folder / "digits.npz", X=images, y=labels)
    np.savez_compressed(folder / "small.npz", X=images, y=labels)
    header = np.array([0x0803, ROWS, 28, 28], ">i4").tobytes()
    label_header = np.array([0x0801, ROWS], ">i4").tobytes()
    for suffix, write in (("", open), (".gz", gzip.open)):
        with write(folder / f"train-images-idx3-ubyte{suffix}", "wb") as file:
            file.write(header + images.tobytes())
        with write(folder / f"train-labels-idx1-ubyte{suffix}", "wb") as file:
            file.write(label_header + labels.astype(np.uint8).tobytes())
    return folder


def test_load_mnist(timed):
    timed(lambda: fastnn.load_mnist()[0].images.shape, expected=(60_000, 784), rounds=5)


@pytest.mark.parametrize(
    "name", ["digits.csv", "digits.npz", "small.npz", "train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"]
)
def test_read(timed, mnist, files, name):
    def read():
        path = files / name
        if name.endswith(".csv"):
            return fastnn.read_csv(path)
        if name.endswith(".npz"):
            return fastnn.read_npz(path)[0]
        return fastnn.read_idx(path, files / name.replace("images-idx3", "labels-idx1"))

    data = read()
    assert np.array_equal(data.images, mnist.images[:ROWS])
    assert np.array_equal(data.labels, mnist.labels[:ROWS])
    timed(read, rounds=5)
