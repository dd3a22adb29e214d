"""Reads names of files, folders and arrays: which part of a data set they hold, and whether images or labels."""

import re

Part = str
"""The part of a data set: "train", "validation", "test", or "" if a name does not tell."""

_PARTS: tuple[tuple[Part, str], ...] = (
    ("test", "t10k|testing|test"),
    ("validation", "validation|valid|val|dev"),
    ("train", "training|train"),
)
# Short forms of arrays, such as Xtr and y_te.
_SHORT: dict[str, Part] = {"tr": "train", "trn": "train", "va": "validation", "te": "test", "tst": "test", "ts": "test"}
INPUT_NAMES = (
    "images", "image", "imgs", "img", "x", "xs", "data", "pixels", "digits", "inputs", "input", "features", "samples",
    "fea", "arr", "arr0",
)  # fmt: skip
LABEL_NAMES = (
    "y", "ys", "labels", "label", "targets", "target", "class", "lbl", "lbls", "lab", "gnd", "gt", "t", "classes",
    "arr1",
)  # fmt: skip
CLASS_NAMES = ("targetnames", "classnames", "labelnames")
FEATURE_NAMES = ("featurenames", "columnnames", "columns")


def part_of_file(name: str) -> Part:
    """Return the part that the name of a file or folder tells, or "".

    A name that tells training and test, as "train-test-1.csv" does, tells nothing.
    """
    lower = name.lower()
    found = {part for part, words in _PARTS if re.search(rf"(?<![a-z])(?:{words})(?![a-z])", lower)}
    for word, part in (("tra|trn", "train"), ("tes|tst", "test")):  # the endings of many files of the UCI
        if not found and re.search(rf"\.(?:{word})$", lower):
            found = {part}
    if not found:  # names without separators, such as mnisttest.csv
        found = {part for part, words in (("test", "t10k|test"), ("train", "train")) if re.search(words, lower)}
    return found.pop() if len(found) == 1 else ""


def part_of_folder(name: str) -> Part:
    """Return the part that a folder of this exact name holds, or ""."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    for part, words in _PARTS:
        if re.fullmatch(rf"(?:{words})(?:set|data|images|ing)?", plain):
            return part
    return ""


def part_and_role(key: str) -> tuple[Part, str]:
    """Return which part an array of this name belongs to, and its plain name: ("train", "x") for ``X_train``.

    The plain name is one of `INPUT_NAMES`, `LABEL_NAMES`, `CLASS_NAMES` or `FEATURE_NAMES`, or "" for every other name.
    """
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    known = (*INPUT_NAMES, *LABEL_NAMES, *CLASS_NAMES, *FEATURE_NAMES)
    if plain in known:
        return "", plain
    for part, words in _PARTS:
        for pattern in (rf"(?:{words})(\w+)", rf"(\w+?)(?:{words})"):
            if (match := re.fullmatch(pattern, plain)) and match[1] in known:
                return part, match[1]
    if match := re.fullmatch("([xy])(tr|trn|va|te|tst|ts)", plain):
        return _SHORT[match[2]], match[1]
    return "", ""


def looks_like_labels(name: str) -> bool:
    """Return whether the name of a file or an array tells that it holds labels."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return any(word in LABEL_NAMES[:9] for word in words) or part_and_role(name.split(".")[0])[1] in LABEL_NAMES
