"""Views of data in blocks: other labels, columns and rows, and what stays the same."""

import pickle

import numpy as np
import pytest

import fastnn
from fastnn.streams import BlockedView, open_data
from fastnn.streams.labels import Labels
from fastnn.streams.view import with_classes

LENGTHS = (4, 0, 3)
STARTS = np.cumsum((0, *LENGTHS))
IMAGES = np.arange(28, dtype=np.float32).reshape(7, 4)
LABELS = np.array([7, 3, 7, 9, 3, 3, 9])


@pytest.fixture
def data():
    return open_data(
        lambda k: (IMAGES[STARTS[k] : STARTS[k + 1]], LABELS[STARTS[k] : STARTS[k + 1]]), n_blocks=len(LENGTHS)
    )


def _all(data):
    blocks = [data.read(number) for number in range(data.n_blocks)]
    return np.concatenate([each.images for each in blocks]), np.concatenate([each.labels for each in blocks])


def test_labels_are_yielded_without_images(data):
    assert data.classes == (3, 7, 9)
    assert data.present_classes() == (3, 7, 9)
    np.testing.assert_array_equal(np.concatenate(list(data.labels())), [1, 0, 1, 2, 0, 0, 2])


def test_present_classes_leave_out_gaps_and_those_given_are_all():
    rows = np.zeros((4, 2), np.uint8)
    assert open_data(lambda k: (rows, np.array([0, 2, 3, 0])), n_blocks=1).present_classes() == (0, 2, 3)
    assert open_data(lambda k: (rows, np.array([0, 2, 3, 0])), n_blocks=1).classes == (0, 1, 2, 3)
    given = open_data(lambda k: (rows, np.array([0, 2, 3, 0])), n_blocks=1, classes=range(5))
    assert given.present_classes() == (0, 1, 2, 3, 4)


def test_rows_are_left_out(data):
    view = BlockedView(data, parts=[(0, np.array([0, 3])), (1, None), (2, np.array([], int))])
    assert (view.block_lengths, len(view), view.classes) == ((2, 0, 0), 2, data.classes)
    images, labels = _all(view)
    np.testing.assert_array_equal(images, IMAGES[[0, 3]])
    np.testing.assert_array_equal(labels, [1, 2])
    np.testing.assert_array_equal(np.concatenate(list(view.labels())), labels)
    assert len(data) == 7


def test_some_blocks_and_parts_of_them_are_data_of_their_own(data):
    view = BlockedView(data, parts=[(0, slice(1, None, 3)), (0, slice(0, None, 2)), (2, None)])
    assert (view.block_lengths, len(view), view.classes) == ((1, 2, 3), 6, data.classes)
    images, labels = _all(view)
    np.testing.assert_array_equal(images, IMAGES[[1, 0, 2, 4, 5, 6]])
    np.testing.assert_array_equal(labels, [0, 1, 1, 0, 0, 2])
    np.testing.assert_array_equal(np.concatenate(list(view.labels())), labels)
    out = np.empty((3, 4), np.float32)
    assert np.may_share_memory(view.read(2, out).images, out)
    assert view.read(2).name.endswith("block 2")
    with pytest.raises(fastnn.SettingsError, match="block"):
        view.read(3)
    of_view = BlockedView(view, parts=[(1, np.array([1])), (2, np.array([2, 0]))])
    np.testing.assert_array_equal(_all(of_view)[0], IMAGES[[2, 6, 4]])
    np.testing.assert_array_equal(np.concatenate(list(of_view.labels())), [1, 2, 0])


def test_columns_and_targets_are_others(data):
    view = BlockedView(data, lambda labels: labels[:, None] * 0.5, Labels(None, 1), tag="halves", columns=[3, 1])
    images, targets = _all(view)
    np.testing.assert_array_equal(images, IMAGES[:, [3, 1]])
    np.testing.assert_array_equal(targets[:, 0], [0.5, 0, 0.5, 1, 0, 0, 1])
    assert (view.n_inputs, view.has_targets, view.n_classes, view.classes) == (2, True, 1, None)
    assert view.head(2).images.shape == (2, 2)


def test_images_are_read_in_place_unless_they_are_changed(data):
    out = np.empty((4, 4), np.float32)
    view = with_classes(data, [9, 7, 3])
    assert np.may_share_memory(view.read(0, out).images, out)
    np.testing.assert_array_equal(view.read(0).labels, [1, 2, 1, 0])
    assert not np.may_share_memory(BlockedView(data, parts=[(0, np.arange(4))]).read(0, out).images, out)


def test_classes_of_others_are_found_by_their_texts_and_unknown_ones_are_refused(data):
    np.testing.assert_array_equal(_all(with_classes(data, ["9", "3", "x", "7"]))[1], [3, 1, 3, 0, 1, 1, 0])
    with pytest.raises(fastnn.DataError, match="found label 9, expected one of the classes"):
        with_classes(data, [3, 7])


def test_digests_differ_for_other_data_and_not_for_other_numbers_of_classes(data):
    parts = [(0, np.array([1, 2])), (1, None), (2, None)]
    views = [
        data, BlockedView(data, parts=parts), BlockedView(data, parts=[(0, np.array([2, 1])), *parts[1:]]),
        BlockedView(data, parts=parts[:2]), BlockedView(data, parts=[(0, slice(2)), *parts[1:]]),
        BlockedView(data, columns=[0, 1]), BlockedView(data, np.negative, Labels(None, 1), tag="negative"),
    ]  # fmt: skip
    assert len({view.digest for view in views}) == len(views)
    assert with_classes(data, [9, 7, 3]).digest == data.digest
    assert BlockedView(data, parts=[(0, slice(1, 3)), *parts[1:]]).digest == views[1].digest
    assert views[1].named("other").name == "other"


def test_a_view_of_files_is_pickled(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    data = open_data(tmp_path / "x.npy", labels=LABELS, block_rows=3)
    view = BlockedView(data, parts=[(0, None), (1, np.array([2]))])
    found = pickle.loads(pickle.dumps(view))
    assert found.digest == view.digest
    for mine, other in zip(_all(found), _all(view), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_blocks_are_no_array_and_have_no_labels_if_asked(data):
    with pytest.raises(fastnn.SettingsError, match="found BlockedData, expected an array here"):
        np.asarray(data)
    assert data.without_labels().read(0).labels is None
    assert data.read(0).labels is not None
