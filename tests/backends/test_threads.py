"""The number of threads of an epoch."""

import pytest

from fastnn.backends.threads import EPOCHS_TO_RETRY, TeamSize


def test_all_threads_run_while_none_shares_its_core():
    size = TeamSize(4)
    for _ in range(3):
        assert size.next() == 4
        size.note(1.0, [0.99, 0.8, 0.97, 1.0])


@pytest.mark.parametrize(("most", "fewer"), [(2, 1), (4, 3)])
def test_a_thread_that_shares_its_core_is_left_out_for_a_few_epochs(most, fewer):
    size = TeamSize(most)
    size.note(1.0, [1.0] * (most - 1) + [0.5])
    for _ in range(EPOCHS_TO_RETRY):
        assert size.next() == fewer
        size.note(1.0, [1.0] * fewer)
    assert size.next() == most


def test_further_threads_are_left_out_while_cores_are_shared_but_one_always_runs():
    size = TeamSize(3)
    for expected in (3, 2, 1, 1):
        assert size.next() == expected
        size.note(1.0, [0.5] * expected)


def test_epochs_too_short_to_time_do_not_change_the_number_of_threads():
    size = TeamSize(2)
    size.note(0.001, [0.0, 0.001])
    assert size.next() == 2


def test_the_next_number_of_threads_follows_from_those_that_ran_not_from_the_maximum():
    size = TeamSize(8)
    size.note(1.0, [1.0, 0.4])  # two threads ran, because the layer has only two panels
    assert size.next() == 1
