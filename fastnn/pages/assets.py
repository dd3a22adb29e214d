"""Scripts and styles of pages: their text, data for scripts, and the policy that lets a page run only what it has."""

import json
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from importlib.resources import files
from typing import Any

_PACKAGE = "fastnn.pages"
# Characters that could end a script element or a line of a script, and their escapes in JSON.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def read_asset(name: str, package: str = _PACKAGE) -> str:
    """Return the text of a script, a style or a template of a package.

    Parameters
    ----------
    name : str
        The name of the file, such as ``"figures.js"``.
    package : str
        The package that has it.
    """
    return files(package).joinpath(name).read_text(encoding="utf-8")


def script_json(value: Any) -> str:
    """Return `value` as JSON that can stand in a script element: no text in it ends the element.

    Raises ValueError for NaN and infinity, which JSON lacks.

    Examples
    --------
    >>> from fastnn.pages.assets import script_json
    >>> script_json(["</script>", 1.5])
    '["\\\\u003c/script\\\\u003e",1.5]'
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def content_policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """Return the Content-Security-Policy of a page in one file: it runs these elements, and requests nothing.

    Parameters
    ----------
    scripts, styles : iterable of str
        The text of each inline script and style, exactly as between its tags.

    Examples
    --------
    >>> from fastnn.pages.assets import content_policy
    >>> content_policy([], [""])[:52]
    "default-src 'none'; script-src 'none'; style-src 'sh"
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {script_sources(scripts)}",
            f"style-src {script_sources(styles)}",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def script_sources(texts: Iterable[str]) -> str:
    """Return the sources of inline scripts or styles for a Content-Security-Policy: their hashes, or 'none'."""
    digests = (b64encode(sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
