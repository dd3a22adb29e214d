"""Tests of `split_files`: options reach the readers, and sparse rows are split as dense ones are."""

import numpy as np
from scipy import sparse

from fastnn.datasets.splits import split_files

RNG = np.random.default_rng(2)
ROWS = np.where(RNG.random((50, 7)) < 0.4, RNG.random((50, 7)), 0)
LABELS = np.arange(50) % 3


def test_sparse_rows_are_split_as_dense_ones(tmp_path):
    np.savez(tmp_path / "dense.npz", X=ROWS, y=LABELS)
    sparse.save_npz(tmp_path / "rows.npz", sparse.csr_matrix(ROWS))
    np.save(tmp_path / "labels.npy", LABELS)
    dense = split_files([tmp_path / "dense.npz"], 4)
    rows = split_files([tmp_path / "rows.npz", tmp_path / "labels.npy"], 4)
    for of_dense, of_sparse in zip(dense, rows, strict=True):
        np.testing.assert_array_equal(of_sparse.images.toarray(), of_dense.images)
        np.testing.assert_array_equal(of_sparse.labels, of_dense.labels)


def test_options_reach_the_readers(tmp_path):
    np.savez(tmp_path / "dense.npz", X=ROWS, y=LABELS)
    assert split_files([tmp_path / "dense.npz"], 4, task="regression").train.has_targets
    assert split_files([tmp_path / "dense.npz"], 4, image_shape=(1, 7)).train.image_shape == (1, 7)
