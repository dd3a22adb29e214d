"""Data larger than memory: readers that give one block of rows at a time, in all formats that `open_data` knows."""

from fastnn.streams.ahead import blocks_ahead
from fastnn.streams.blocked import BlockedData
from fastnn.streams.digits import infinite_digits
from fastnn.streams.open import open_data
from fastnn.streams.view import BlockedView

__all__ = ["BlockedData", "BlockedView", "blocks_ahead", "infinite_digits", "open_data"]
