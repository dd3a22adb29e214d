"""Tests that both parsers of CSV numbers accept the same text and return the same numbers."""

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastnn.datasets.csv_values import Body, parse_carefully, parse_fast

NUMBER_LIKE = st.text("0123456789.eE+-", max_size=6)
FIELD = st.one_of(
    st.integers(-2, 300).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    NUMBER_LIKE,
    st.sampled_from(
        ["nan", "inf", "1e999", "1_0", " 5", "5 ", '"5"', "", "٣", "x", "1e-999", "-0", "007", "#", "\x0b"]
    ),
)


@given(rows=st.lists(st.lists(FIELD, min_size=1, max_size=3), min_size=1, max_size=4))
@example(rows=[["1", "2"], [""]])
@example(rows=[["1"], [""], ["2"]])
@example(rows=[["1.", ".5"], ["+1e5", "-.5E-1"]])
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_fast_and_the_careful_parser_agree(outcome, rows):
    """The fast parser returns None, or the same bits as the careful parser."""
    text = "\n".join(",".join(row) for row in rows).encode()
    fast = parse_fast(text, len(rows[0]))
    body = Body(text, 0, len(text), 1, len(rows[0]), "as in line 1", "t.csv")
    careful = outcome(lambda: parse_carefully(text, 1, body))
    if isinstance(careful, str):
        assert fast is None, careful
    else:
        if fast is not None:
            np.testing.assert_array_equal(fast.astype(float), careful, strict=True)
        if all(field.isdigit() and int(field) <= 255 for row in rows for field in row):
            assert fast is not None
            assert fast.dtype == np.uint8


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_the_fast_parser_reads_every_float_that_python_writes(numbers):
    text = ",".join(map(repr, numbers)).encode()
    fast = parse_fast(text, len(numbers))
    assert fast is not None
    assert fast[0].tolist() == numbers
