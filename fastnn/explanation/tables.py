"""Numbers, tables and grids of numbers as text.

Numbers are rounded to four significant digits, those in a grid to three.
"""

from collections.abc import Callable, Sequence

import numpy as np

Namer = Callable[[int], str]

# A list of up to WHOLE entries is shown whole. Of a longer list, the LARGEST largest entries are shown.
WHOLE, LARGEST = 16, 6
# A grid has up to this number of rows and of columns, and two grids side by side have up to half of these columns.
GRID = 10


def number(value: float) -> str:
    """Return a number as text."""
    return f"{value + 0:.4g}"  # + 0 turns -0 into 0


def largest(values: np.ndarray) -> list[int]:
    """Return the indices of the entries to show: all of a short list, otherwise the largest by magnitude, in order."""
    if len(values) <= WHOLE:
        return list(range(len(values)))
    indices: list[int] = np.argsort(-np.abs(values), kind="stable")[:LARGEST].tolist()
    return indices


def heading(name: str, shown: Sequence[int], count: int) -> str:
    """Return the heading of a column of names: `name` if all are shown."""
    return name if len(shown) == count else f"the {len(shown)} largest"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), indent: str = "   "
) -> list[str]:
    """Return the lines of a table; the columns in `left` are aligned to the left, the others to the right."""
    columns = []
    for index, column in enumerate(zip(head, *rows, strict=True)):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if index in left else cell.rjust(width) for cell in column])
    return [f"{indent}{'  '.join(line)}".rstrip() for line in zip(*columns, strict=True)]


def weighted_sum(inp: np.ndarray, weight: np.ndarray, bias: float, total: float, title: str, name: Namer) -> list[str]:
    """Return the lines of one weighted sum, one product per line, then the bias and the total.

    inp, weight: (terms,)
    """
    products = inp * weight
    shown = largest(products)
    rows = [(name(i), *map(number, (inp[i], weight[i], products[i]))) for i in shown]
    if len(shown) < len(products):
        others = int(np.count_nonzero(products) - np.count_nonzero(products[shown]))
        rest = products.sum() - products[shown].sum()
        rows.append((f"other nonzero ({others:,})", "", "", number(rest)))
    rows += [("bias", "", "", number(bias)), (title, "", "", number(total))]
    return table(("", "input", "weight", "product"), rows)


def grids(**titled: np.ndarray) -> list[str]:
    """Return the lines of matrices side by side, below their titles; none if they are too large.

    NaN is an empty place.
    """
    matrices = list(titled.values())
    if len(matrices[0]) > GRID or sum(matrix.shape[1] for matrix in matrices) > GRID:
        return []
    blocks = []
    for title, matrix in zip(titled, matrices, strict=True):
        cells = [["-" if np.isnan(value) else f"{value + 0:.3g}" for value in row] for row in matrix]
        lines = table([""] * matrix.shape[1], cells, left=(), indent="")[1:]
        blocks.append([title, *lines])
    widths = [max(map(len, block)) for block in blocks]
    return [
        "   " + "     ".join(line.ljust(width) for line, width in zip(each, widths, strict=True)).rstrip()
        for each in zip(*blocks, strict=True)
    ]
