"""Suggests the name that was probably meant by a wrong one."""

import re
from collections.abc import Iterable

# The similarity, by difflib's measure, from which a name is suggested. Most single typing errors reach 0.8.
_SIMILAR = 0.7


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """Return " (did you mean NAME?)" with the most similar name, or "" if none is similar.

    A name is also similar to its initials: "--lr" to "--learning-rate".

    Examples
    --------
    >>> from fastnn.suggestions import did_you_mean
    >>> did_you_mean("adm", ["sgd", "momentum", "adam"])
    ' (did you mean adam?)'
    >>> did_you_mean("--lr", ["--epochs", "--learning-rate"])
    ' (did you mean --learning-rate?)'
    >>> did_you_mean("x", ["sgd", "adam"])
    ''
    """
    from difflib import get_close_matches

    names = list(dict.fromkeys(known))
    folded = {name.lower().replace("_", "-"): name for name in reversed(names)}
    text = found.lower().replace("_", "-")
    meant = [name for name in names if len(text.strip("-")) > 1 and _initials(name) == text.strip("-")]
    meant = meant or [folded[name] for name in get_close_matches(text, folded, 1, _SIMILAR)]
    return f" (did you mean {meant[0]}?)" if meant else ""


def _initials(name: str) -> str:
    return "".join(word[0] for word in re.split("[-_]+", name.lower()) if word)
