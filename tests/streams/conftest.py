"""Fixtures for the tests of data in blocks."""

import pytest

from fastnn.errors import DataError


@pytest.fixture
def refused():
    """A function that calls something and returns its error message, which must be one line with all the parts."""

    def check(call, *parts, kind=DataError):
        with pytest.raises(kind) as caught:
            call()
        message = str(caught.value)
        assert message.isprintable(), "the message is not a single line"
        for part in parts:
            assert str(part) in message, message
        return message

    return check
