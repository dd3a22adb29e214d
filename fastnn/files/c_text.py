"""Numbers and texts as C99 writes them: in ASCII, and safe whatever the texts contain."""

import numpy as np

TYPES = {"uint8": "uint8_t", "float32": "float", "int8": "int8_t", "int32": "int32_t", "float64": "double"}
_WIDTH = 118
_LONGEST_LABEL = 40  # characters of a label in a comment


def number(value: float | np.float32) -> str:
    """Return a number, rounded to float32, as a constant of type float with as few digits as it needs."""
    text = str(np.float32(value))
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def initializer(values: np.ndarray, indent: int = 4) -> str:
    """Return the numbers of an array with commas, in lines."""
    is_float = values.dtype == np.float32
    items = map(number, values.ravel()) if is_float else map(repr, values.ravel().tolist())
    lines: list[str] = []
    line: list[str] = []
    room = _WIDTH - indent
    for item in items:
        if line and room < len(item) + 2:
            lines.append(" " * indent + ", ".join(line) + ",")
            line, room = [], _WIDTH - indent
        line.append(item)
        room -= len(item) + 2
    return "\n".join([*lines, " " * indent + ", ".join(line) + ","])


def literal(text: str) -> str:
    """Return a text, in UTF-8, as a string constant. Classes have 1,000 characters at most, and C99 allows 4,095."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    # Three octal digits end an escape, whatever follows; an escaped ? begins no trigraph.
    special = {ord('"'): '\\"', ord("\\"): "\\\\", ord("?"): "\\?", ord("\n"): "\\n", ord("\t"): "\\t"}
    data = text.encode("utf-8")
    escaped = "".join(special.get(each) or (chr(each) if 32 <= each < 127 else f"\\{each:03o}") for each in data)
    return escaped.replace("name_", r"\156ame_").replace("NAME_", r"\116AME_")  # no place for the prefix


def label(text: str) -> str:
    """Return a label for a comment."""
    return _escaped(text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}...")


def comment(text: str) -> str:
    """Return a text that neither begins nor ends a comment."""
    return text.replace("*/", "* /").replace("/*", "/ *")
