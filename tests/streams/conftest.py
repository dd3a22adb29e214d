"""Fixtures for the tests of data in blocks."""

from tests.datasets.conftest import refused as refused
