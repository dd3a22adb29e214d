"""Finds the role of each column of a table: the labels, row numbers that are left out, and inputs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fastnn.datasets.options import ReadOptions
from fastnn.datasets.tables.columns import Profile, Table
from fastnn.errors import DataError

# Names that say "label", and names that are the answer in well-known tables; compared without case and punctuation.
_LABEL_NAMES = {
    *("label", "labels", "class", "classes", "target", "targets"),
    *("classlabel", "classlabels", "classname", "classid", "labelid", "targetid"),
}
_ANSWER_NAMES = {
    *("digit", "digits", "character", "letter", "species", "variety", "category", "quality", "diagnosis", "outcome"),
    *("result", "response", "survived", "y", "price", "saleprice", "medv", "medhouseval", "medianhousevalue"),
}
# A column called y is also a coordinate: it holds the labels only at an end of the row.
_ONLY_AT_ENDS = {"y"}
_ROW_NAMES = {"id", "index", "idx", "row", "rowid", "rownames", "rowname", "rownumber", "rownum", "rn"}
_ID = re.compile(r".*[ _.-]id|id[ _.-].*|.*[a-z]I[Dd]", re.DOTALL)
_PIXEL = re.compile(r"(?:pixel|pix|px|p)?[ _]?\d+(?:[x_,]\d+)?", re.IGNORECASE)

IMAGE_SIDES = {784: 28, 64: 8}
"""The numbers of columns that are known to be square images, and their side."""

LABEL_HINT = "give its name or number with label (--label)"

# Up to this number of rows, the values of a column are no evidence.
_FEW_ROWS = 20
# More of a table's columns than this cost time and tell nothing new.
_SAMPLED_COLUMNS = 40
_MOST_CLASSES = 1000
# A column with less evenness is a flag, or a pixel that is nearly always 0.
_LEAST_EVENNESS = 0.1
# Ids are counted over at least this number of rows.
_LEAST_COUNTED = 10
_LEAST_UNIQUE = 50
_NEARLY_ALL = 0.9


@dataclass
class Roles:
    """The positions of the columns, from 0, and what to tell the user about them."""

    inputs: list[int]
    label: int | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """What is known of a table's columns before it is read: from a model, or from the training table.

    Parameters
    ----------
    n_inputs : int or None
    names : sequence of str or None
        Those of the inputs.
    like : Table and Roles, or None
        The training table.
    """

    n_inputs: int | None = None
    names: Sequence[str] | None = None
    like: tuple[Table, Roles] | None = None


def find_roles(table: Table, options: ReadOptions, known: Known) -> Roles:
    """Return which columns are labels and inputs; raise DataError if the table does not tell."""
    n_columns = table.frame.shape[1]
    dropped = [_position(table, each, "drop") for each in options.drop]
    usable = [position for position in range(n_columns) if position not in dropped]
    if known.like is not None:
        return _as_in_training(table, usable, *known.like)
    notes: list[str] = []
    label = None
    found_by_name = False
    if options.label not in (None, "none"):
        label = _told(table, options.label)
        if label not in usable:
            raise DataError(f"{table.name}: {table.column(label)} is both label and drop, expected one")
    elif options.label is None:
        label = _named(table, usable, [] if known.names is None else list(known.names))
        found_by_name = label is not None
    rest = [position for position in usable if position != label]
    if known.names is not None and table.names is not None:
        inputs = _by_names(table, rest, list(known.names))
        return Roles(inputs, label, _label_note(table, label, n_columns))
    counting = _counting(table)
    ids = [position for position in rest if _is_row_number(table, position, len(rest), counting)]
    if known.n_inputs is not None and len(rest) - len(ids) < known.n_inputs <= len(rest):
        ids = [] if known.n_inputs == len(rest) else ids[: len(rest) - known.n_inputs]
    rest = [position for position in rest if position not in ids]
    if label is None and options.label is None:
        label = _by_evidence(table, rest, known.n_inputs)
    if ids:
        names = ", ".join(table.column(position) for position in ids)
        notes.append(f"left out: {names}, row numbers or ids")
    inputs = [position for position in rest if position != label]
    if not inputs:
        raise DataError(f"{table.name}: found no columns beside labels and row numbers, expected inputs")
    if known.n_inputs not in (None, len(inputs)):
        found = f"{n_columns} columns, {len(inputs)} of them inputs"
        raise DataError(f"{table.name}: found {found}, expected {known.n_inputs} inputs")
    if found_by_name or label is not None or known.n_inputs is None:
        _check_odd_name(table, inputs)
    return Roles(inputs, label, notes + _label_note(table, label, n_columns))


def _label_note(table: Table, label: int | None, n_columns: int) -> list[str]:
    if label is None:
        return []
    end = " (last)" if label == n_columns - 1 else " (first)" if label == 0 else ""
    return [f"labels: {table.column(label)}{end if table.names is None else ''}"]


def _position(table: Table, column: str | int, option: str) -> int:
    """Return the position of a column that the user named by its name or by its number from 1."""
    names = table.names or []
    text = str(column).strip()
    for same in (lambda name: name == text, lambda name: name.casefold() == text.casefold()):
        found = [position for position, name in enumerate(names) if same(name)]
        if len(found) == 1:
            return found[0]
    n_columns = table.frame.shape[1]
    if text.isdecimal() and 1 <= int(text) <= n_columns:
        return int(text) - 1
    shown = ", ".join(repr(name) for name in names[:8]) + (", ..." if len(names) > 8 else "")
    columns = f"the columns {shown}" if names else f"{n_columns} columns without names"
    expected = f"one of them, or a number from 1 to {n_columns}"
    raise DataError(f"{table.name}: {option} is {column!r}, but the table has {columns}, expected {expected}")


def _told(table: Table, label: str | int | None) -> int:
    names = [name.casefold() for name in table.names or []]
    if label in ("first", "last") and label not in names:
        return 0 if label == "first" else table.frame.shape[1] - 1
    return _position(table, label if label is not None else "", "label")


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def names_labels(name: str) -> bool:
    """Return whether a name says that a column has the labels, such as "Class label" or "species"."""
    return _bare(name) in _LABEL_NAMES | _ANSWER_NAMES - _ONLY_AT_ENDS


def _named(table: Table, usable: list[int], inputs: Sequence[str]) -> int | None:
    """Return the column whose name says that it has the labels; None if there is none.

    inputs: the names of a model's inputs. If there is only one other column, besides ids, it has the labels.
    """
    if table.names is None:
        return None
    if inputs:
        usable = [position for position in usable if table.names[position] not in set(inputs)]
        others = [position for position in usable if not _has_row_name(table.names[position])]
        if len(others) <= 1:
            return others[0] if others else None
    ends = [position for position in usable if not _has_row_name(table.names[position])]
    for names in (_LABEL_NAMES, _ANSWER_NAMES):
        found = [
            position
            for position in usable
            if (bare := _bare(table.names[position])) in names
            and (bare not in _ONLY_AT_ENDS or position in (ends[0], ends[-1]))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            columns = " and ".join(table.column(position) for position in found)
            raise DataError(f"{table.name}: found {columns}, expected one column of labels; {LABEL_HINT}")
    return None


def _has_row_name(name: str) -> bool:
    return not name or name.startswith("Unnamed:") or _bare(name) in _ROW_NAMES or bool(_ID.fullmatch(name))


def _is_row_number(table: Table, position: int, n_columns: int, counting: set[int]) -> bool:
    """Return whether a column has row numbers or ids: by its name, or because it counts the rows."""
    if table.names is not None and _has_row_name(table.names[position]):
        return True
    if n_columns == 1:
        return False
    return position in counting or (table.names is None and position == 0 and _is_sparse_id(table, position))


def _counting(table: Table) -> set[int]:
    """Return the columns that count the rows from 0 or 1; the first column may do so in any order."""
    frame = table.frame
    if len(frame) < _LEAST_COUNTED:
        return set()
    found = set()
    rows = np.arange(len(frame))
    numeric = [
        position for position, dtype in enumerate(table.dtypes) if isinstance(dtype, np.dtype) and dtype.kind in "uif"
    ]
    starts = frame.iloc[:_LEAST_COUNTED, numeric].to_numpy()
    for index, position in enumerate(numeric):
        start = starts[0, index]
        if start in (0, 1) and all(starts[:, index] == rows[:_LEAST_COUNTED] + int(start)):
            values = frame.iloc[:, position].to_numpy()
            if (values == rows + int(start)).all():
                found.add(position)
    if 0 in numeric and len(frame) >= _LEAST_UNIQUE:
        # Row numbers of a table that was shuffled stand first.
        values = np.sort(frame.iloc[:, 0].to_numpy())
        if values[0] in (0, 1) and (values == rows + int(values[0])).all():
            found.add(0)
    return found


def _is_sparse_id(table: Table, position: int) -> bool:
    """Return whether a first column without a name has large whole numbers that hardly repeat, as no other column."""

    def unique(profile: Profile) -> bool:
        return profile.is_whole and profile.n_values >= _NEARLY_ALL * profile.n_rows >= _NEARLY_ALL * _LEAST_UNIQUE

    if table.is_text(position):
        return False
    profile = table.profile(position)
    if not unique(profile) or profile.high - profile.low < 10 * profile.n_rows:
        return False
    others = [each for each in range(table.frame.shape[1]) if each != position and not table.is_text(each)]
    return not any(unique(table.profile(each)) for each in _sampled(others))


def _sampled(positions: Sequence[int]) -> list[int]:
    """Return at most _SAMPLED_COLUMNS of the positions, from all parts of the row."""
    count = min(len(positions), _SAMPLED_COLUMNS)
    return [positions[int(index)] for index in np.linspace(0, len(positions) - 1, count)] if count else []


def is_pixel_name(name: str) -> bool:
    """Return whether a name is that of a pixel, such as pixel0, 1x1, pixel_3_4 or 17."""
    return bool(_PIXEL.fullmatch(name))


def _by_evidence(table: Table, usable: list[int], n_inputs: int | None) -> int | None:
    """Return the column of the labels by its values; None if the table has no labels."""
    n_usable = len(usable)
    is_image = table.names is None or all(is_pixel_name(table.names[position]) for position in usable)
    if n_usable == n_inputs or (n_inputs is None and n_usable in IMAGE_SIDES and is_image):
        return None
    if n_inputs is None and table.names is not None and is_image:
        return None
    texts = [position for position in usable if table.is_text(position)]
    ends = [usable[0], usable[-1]] if n_usable > 1 else usable
    if texts:
        return _text_label(table, texts, usable)
    middle = [table.profile(position) for position in _sampled(usable[1:-1])]
    profiles = [table.profile(position) for position in ends]
    likely = [end for end, profile in zip(ends, profiles, strict=True) if _stands_out(profile, middle)]
    if len(likely) == 2:
        evenness = [profile.evenness for profile in profiles]
        clear = [end for end, own, other in zip(ends, evenness, evenness[::-1], strict=True) if own > 5 * other]
        likely = clear or likely
    if len(likely) == 1:
        return likely[0]
    if not likely and n_usable - 1 in ([*IMAGE_SIDES] if n_inputs is None else [n_inputs]):
        zeros = [profile.high == profile.low == 0 for profile in profiles]
        if all(zeros):
            return ends[0]  # both columns are equal
        if any(zeros):
            return ends[zeros.index(False)] if zeros[1] or profiles[0].n_rows > _FEW_ROWS else _refuse(table, ends)
    return _refuse(table, likely or ends)


def _refuse(table: Table, candidates: list[int]) -> int:
    columns = " and ".join(table.column(position) for position in candidates[:4])
    more = f" and {len(candidates) - 4} more" if len(candidates) > 4 else ""
    raise DataError(
        f"{table.name}: found {table.frame.shape[1]} columns, none clearly the labels ({columns}{more} may be), "
        f"expected one; {LABEL_HINT}, or label none if there are none"
    )


def _text_label(table: Table, texts: list[int], usable: list[int]) -> int:
    """Return the one column of text whose values repeat, if it stands at an end of the row.

    Text is no input, so a last column of text has the labels. A first one may also be an input that was not encoded,
    and labels stand last: it needs a last column that does not look like labels.
    """
    repeating = [position for position in texts if _repeats(table.texts(position))]
    if len(repeating) != 1 or repeating[0] not in (usable[0], usable[-1]):
        return _refuse(table, repeating or texts)
    position, other = repeating[0], usable[-1]
    middle = [table.profile(each) for each in _sampled(usable[1:-1]) if not table.is_text(each)]
    if position != other and middle and not table.is_text(other):
        last = table.profile(other)
        n_whole = sum(each.is_whole for each in middle)
        is_count = last.is_whole and 1 < last.n_values <= last.n_rows / 5 and 4 * n_whole < len(middle)
        if is_count or _stands_out(last, middle):
            return _refuse(table, [position, other])
    return position


def _repeats(texts: list[str | None]) -> bool:
    """Return whether the texts of a column can be classes; those of a few rows need not repeat."""
    values = [text for text in texts if text is not None]
    return len(values) <= _FEW_ROWS or 1 < len(set(values)) <= len(values) / 2


def _stands_out(profile: Profile, middle: list[Profile]) -> bool:
    """Return whether a column looks like labels, and unlike the columns between both ends of the row.

    Labels are few whole numbers, each of which repeats, and which begin at 0 or 1 with few gaps, or are only two.
    Beside fractions, they may begin at any number if they have no gaps.
    """
    varied = [each for each in middle if each.n_values > 1]
    span = profile.high - profile.low + 1
    if not profile.is_whole or not 2 <= profile.n_values <= min(profile.n_rows / 2, _MOST_CLASSES):
        return False
    if profile.n_single > (profile.n_values / 2 if profile.n_rows < 100 else 0):
        return False
    is_beside_fractions = bool(varied) and 2 * sum(each.is_whole for each in varied) < len(varied)
    has_usual_start = profile.low in (0, 1) and 2 * profile.n_values >= span
    if profile.n_values > 2 and not has_usual_start and not (is_beside_fractions and profile.n_values == span):
        return False
    if profile.evenness < _LEAST_EVENNESS:
        return False
    similar = [
        each
        for each in varied
        if each.is_whole
        and abs(each.high - profile.high) <= 0.1 * abs(profile.high)
        and abs(each.low - profile.low) <= 0.1 * abs(profile.high)
    ]
    return 4 * len(similar) < max(len(varied), 1)


def _check_odd_name(table: Table, inputs: list[int]) -> None:
    """Raise DataError if all inputs but one or two are the pixels of a known image."""
    if table.names is None:
        return
    pixels = [position for position in inputs if is_pixel_name(table.names[position])]
    odd = [position for position in inputs if position not in set(pixels)]
    if len(pixels) in IMAGE_SIDES and 0 < len(odd) <= 8:
        side = IMAGE_SIDES[len(pixels)]
        columns = " and ".join(table.column(position) for position in odd)
        raise DataError(
            f"{table.name}: found {columns} beside {side} x {side} pixels, expected only pixels; {table.drop_hint(odd)}"
        )


def _by_names(table: Table, usable: list[int], names: list[str]) -> list[int]:
    """Return the positions of the inputs of these names; raise DataError that names those that are missing."""
    position_of = {table.names[position]: position for position in usable} if table.names else {}
    missing = [name for name in names if name not in position_of]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        others = [name for name in position_of if name not in set(names)]
        found = f"; found {', '.join(map(repr, others[:3]))} instead" if others else ""
        raise DataError(
            f"{table.name}: the column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing[:3]))}{more} "
            f"{'are' if len(missing) > 1 else 'is'} missing{found}, expected the {len(names)} inputs of the training"
        )
    return [position_of[name] for name in names]


def _as_in_training(table: Table, usable: list[int], train: Table, roles: Roles) -> Roles:
    """Return the roles of the columns as in the training table, by their names, or by position without names."""
    n_columns = table.frame.shape[1]
    if table.names is not None and train.names is not None:
        names = [train.names[position] for position in roles.inputs]
        label = None
        if roles.label is not None:
            title = train.names[roles.label]
            label = table.names.index(title) if title in table.names else None
        rest = [position for position in usable if position != label]
        if len(set(names)) < len(names) and n_columns == train.frame.shape[1]:
            return Roles(list(roles.inputs), roles.label)
        known = {*names, *train.names}
        extra = [position for position in rest if table.names[position] not in known]
        extra = [position for position in extra if not _has_row_name(table.names[position])]
        inputs = _by_names(table, rest, names)
        if extra:
            columns = " and ".join(table.column(position) for position in extra[:3])
            expected = f"the columns of {train.name}; {table.drop_hint(extra)}"
            raise DataError(f"{table.name}: found {columns}, expected {expected}")
        return Roles(inputs, label)
    if n_columns == train.frame.shape[1]:
        return Roles(list(roles.inputs), roles.label)
    if len(usable) == len(roles.inputs):
        return Roles(usable, None)
    found = f"{n_columns} columns"
    raise DataError(f"{table.name}: found {found}, expected {train.frame.shape[1]} as in the training set {train.name}")
