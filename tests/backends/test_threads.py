"""How many threads an epoch gets."""

import pytest

from fastnn.backends.threads import EPOCHS_TO_RETRY, Crew


def test_a_crew_is_whole_as_long_as_its_threads_have_their_cores():
    crew = Crew(4)
    for _ in range(3):
        assert crew.size() == 4
        crew.note(1.0, [0.99, 0.8, 0.97, 1.0])


@pytest.mark.parametrize(("most", "fewer"), [(2, 1), (4, 3)])
def test_a_crew_with_a_thread_that_shares_its_core_is_smaller_until_it_tries_again(most, fewer):
    crew = Crew(most)
    crew.note(1.0, [1.0] * (most - 1) + [0.5])
    for _ in range(EPOCHS_TO_RETRY):
        assert crew.size() == fewer
        crew.note(1.0, [1.0] * fewer)
    assert crew.size() == most


def test_a_crew_becomes_smaller_still_where_that_is_not_enough_and_never_nobody():
    crew = Crew(3)
    for size in (3, 2, 1, 1):
        assert crew.size() == size
        crew.note(1.0, [0.5] * size)


def test_epochs_too_short_to_time_tell_a_crew_nothing():
    crew = Crew(2)
    crew.note(0.001, [0.0, 0.001])
    assert crew.size() == 2


def test_a_crew_is_compared_with_the_threads_that_ran_not_with_those_it_might_have():
    crew = Crew(8)
    crew.note(1.0, [1.0, 0.4])  # a layer of two panels needs no more
    assert crew.size() == 1
