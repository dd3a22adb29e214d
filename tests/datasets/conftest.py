"""Fixtures for the tests of the readers. They check the form of every error."""

from collections.abc import Callable
from typing import Any

import pytest

from fastnn.errors import DataError, FastnnError

Refused = Callable[..., str]


@pytest.fixture
def refused() -> Refused:
    """A function that calls a reader and returns its error message, which must be one line with all the parts."""

    def check(call: Callable[[], Any], *parts: object, kind: type[FastnnError] = DataError) -> str:
        with pytest.raises(kind) as caught:
            call()
        message = str(caught.value)
        assert message.isprintable(), "the message is not a single line"
        for part in parts:
            assert str(part) in message
        return message

    return check


@pytest.fixture
def outcome() -> Callable[[Callable[[], Any]], Any]:
    """A function that calls a reader and returns its result or its error message. Unexpected errors pass through."""

    def call(reader: Callable[[], Any]) -> Any:
        try:
            return reader()
        except FastnnError as error:
            assert str(error).isprintable(), "the message is not a single line"  # noqa: PT017
            return str(error)

    return call
