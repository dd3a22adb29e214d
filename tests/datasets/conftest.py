"""Fixtures for the tests of the readers. They check the form of every error."""

import pytest

from fastnn.errors import DataError, FastnnError


@pytest.fixture
def refused():
    """A function that calls a reader and returns its error message, which must be one line with all the parts."""

    def check(call, *parts, kind=DataError):
        with pytest.raises(kind) as caught:
            call()
        message = str(caught.value)
        assert message.isprintable(), "the message is not a single line"
        for part in parts:
            assert str(part) in message, message
        return message

    return check


@pytest.fixture
def outcome():
    """A function that calls a reader and returns its result or its error message. Unexpected errors pass through."""

    def call(reader):
        try:
            return reader()
        except FastnnError as error:
            assert str(error).isprintable(), "the message is not a single line"  # noqa: PT017
            return str(error)

    return call


@pytest.fixture
def written(tmp_path):
    """A function that writes text or bytes to a file of the given name and returns its path."""

    def write(content, name="data"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
