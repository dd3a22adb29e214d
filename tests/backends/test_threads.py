"""How many threads an epoch gets."""

import pytest

from fastnn.backends.threads import EPOCHS_TO_RETRY, TeamSize


def test_a_team_is_whole_as_long_as_its_threads_have_their_cores():
    size = TeamSize(4)
    for _ in range(3):
        assert size.next() == 4
        size.note(1.0, [0.99, 0.8, 0.97, 1.0])


@pytest.mark.parametrize(("most", "fewer"), [(2, 1), (4, 3)])
def test_a_team_with_a_thread_that_shares_its_core_is_smaller_until_it_tries_again(most, fewer):
    size = TeamSize(most)
    size.note(1.0, [1.0] * (most - 1) + [0.5])
    for _ in range(EPOCHS_TO_RETRY):
        assert size.next() == fewer
        size.note(1.0, [1.0] * fewer)
    assert size.next() == most


def test_a_team_becomes_smaller_still_where_that_is_not_enough_and_never_nobody():
    size = TeamSize(3)
    for expected in (3, 2, 1, 1):
        assert size.next() == expected
        size.note(1.0, [0.5] * expected)


def test_epochs_too_short_to_time_tell_a_team_nothing():
    size = TeamSize(2)
    size.note(0.001, [0.0, 0.001])
    assert size.next() == 2


def test_a_team_is_compared_with_the_threads_that_ran_not_with_those_it_might_have():
    size = TeamSize(8)
    size.note(1.0, [1.0, 0.4])  # a layer of two panels needs no more
    assert size.next() == 1
