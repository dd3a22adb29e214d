"""Tests of the scripts and styles of pages: their text, data for scripts, and the policy of a page."""

import json
from base64 import b64decode
from hashlib import sha256

import pytest

from fastnn.pages.assets import content_policy, read_asset, script_json

SCRIPTS = ["drawing.js", "figures.js", "network.js", "page.js", "pictures.js"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_strict_and_can_stand_in_a_script_element(name):
    text = read_asset(name)
    assert text.startswith('"use strict";\n')
    assert "</script" not in text.lower()
    assert "<!--" not in text
    assert "innerHTML" not in text


def test_json_for_a_script_ends_no_element_and_is_read_back():
    value = {"name": "</script><!-- & \u2028\u2029 é 7", "numbers": [1, 0.1, None, True]}
    text = script_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="Out of range"):
        script_json(float("nan"))


def test_the_policy_allows_the_given_elements_only():
    directives = dict(part.split(" ", 1) for part in content_policy(["run();"], ["p {}", "é {}"]).split("; "))
    assert directives["default-src"] == directives["base-uri"] == directives["form-action"] == "'none'"
    (script,), styles = directives["script-src"].split(), directives["style-src"].split()
    for source, text in zip([script, *styles], ["run();", "p {}", "é {}"], strict=True):
        assert b64decode(source[len("'sha256-") : -1]) == sha256(text.encode()).digest()
    assert "unsafe" not in str(directives)
