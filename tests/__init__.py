"""The tests. Without compiled kernels, stand-ins are in place before a test file imports any."""

from tests import without_kernels

without_kernels.install()
