"""Tests of help texts, suggestions for typing errors, and completion in a shell."""

import re
import shutil
import subprocess

import pytest

from fastnn.cli import completion
from fastnn.cli.command import main, parser
from fastnn.cli.options import HiddenUnits, Parser
from fastnn.suggestions import did_you_mean

COMMANDS = list(parser()._subparsers._group_actions[0].choices)


def _output(arguments, capsys, code=0):
    """Run the command; return what it prints on stdout, or on stderr if it is to fail."""
    try:
        found = main(arguments)
    except SystemExit as stop:
        found = stop.code
    out, err = capsys.readouterr()
    assert found == code, err
    assert (err if code == 0 else out) == ""
    return err if code else out


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"]])
def test_the_overview_shows_all_commands_and_examples(arguments, capsys):
    text = _output(arguments, capsys)
    assert all(re.search(f"^    {command}  +[a-z]", text, re.MULTILINE) for command in COMMANDS)
    assert "examples:" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_is_the_same_either_way(command, capsys):
    text = _output(["help", command], capsys)
    assert text == _output([command, "--help"], capsys)
    assert text.startswith(f"usage: fastnn {command} ")


def test_the_examples_of_the_help_are_accepted(capsys, monkeypatch, tmp_path):
    """Every line that begins with fastnn parses: no option in it is misspelt."""
    (tmp_path / "runs" / "RUN").mkdir(parents=True)
    (tmp_path / "runs" / "RUN" / "report.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastnn.cli.settings_file.read_settings_file", lambda path, parser: {})
    for command in COMMANDS:
        for line in _output(["help", command], capsys).splitlines():
            if example := re.match(r"  (fastnn .*?)(  |$)", line):
                words = example[1].partition(" > ")[0].split()
                parser().parse_args(words[1:])


@pytest.mark.parametrize(("arguments", "words"), [
    (["trian"], ["fastnn: ", "'trian' (did you mean train?)", "see fastnn --help"]),
    (["help", "evalute"], ["'evalute' (did you mean evaluate?)"]),
    (["train", "--lr", "0.1"], ["fastnn train: ", "--lr (did you mean --learning-rate?)", "see fastnn train --help"]),
    (["train", "--n-epochs=3"], ["--n-epochs (did you mean --epochs?)"]),
    (["train", "--optimizer", "Adma"], ["'Adma' (did you mean adam?)", "sgd, momentum"]),
    (["train", "--recipe", "digts"], ["'digts' (did you mean digits?)"]),
    (["train", "--schedule", "cosin"], ["'cosin' (did you mean cosine?)"]),
    (["train", "somewhere"], ["fastnn train: unexpected argument 'somewhere'"]),
    (["--quite"], ["--quite (did you mean --quiet?)"]),
    (["recipes", "--xyz"], ["fastnn recipes: unknown option --xyz; see"]),
    (["warmup", "--dtype", "float46"], ["'float46' (did you mean float64?)"]),
])  # fmt: skip
def test_a_typing_error_gets_a_suggestion(arguments, words, capsys):
    message = _output(arguments, capsys, 2)
    assert message.count("\n") == 1
    for word in words:
        assert word in message


def test_a_suggestion_is_similar_or_none():
    assert did_you_mean("learning_rat", ["learning_rate"]) == " (did you mean learning_rate?)"
    assert did_you_mean("bs", ["--batch-size", "batch_size"]) == " (did you mean --batch-size?)"
    assert did_you_mean("zebra", ["sgd", "adam"]) == ""
    assert did_you_mean("", ["sgd"]) == ""


@pytest.mark.parametrize(("texts", "units"), [
    (["128"], [128]), (["128,64"], [128, 64]), (["128", "64"], [128, 64]), (["128,", "64"], [128, 64]), ([], []),
    (["128 64"], [128, 64]), (["-3"], [-3]),
    (["12a"], None), (["128x64"], None), (["1.5"], None), (["[128]"], None),
])  # fmt: skip
def test_hidden_units_are_separated_by_spaces_or_commas(texts, units, capsys):
    one = Parser(prog="one")
    one.add_argument("--hidden", nargs="*", action=HiddenUnits)
    if units is not None:
        assert one.parse_args(["--hidden", *texts]).hidden == units
        return
    with pytest.raises(SystemExit):
        one.parse_args(["--hidden", *texts])
    message = f"one: argument --hidden: found {texts[0]!r}, expected numbers of units such as 128 64; see one --help\n"
    assert capsys.readouterr().err == message


ASK = """
source "$1"; shift
complete_line() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
  local function=$(complete -p fastnn | sed 's/.*-F \\([^ ]*\\).*/\\1/')
  "$function" fastnn "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
  printf '%s\\n' "${COMPREPLY[@]}"
}
complete_line "$@"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(("words", "expected"), [
    (["tr"], ["train"]),
    (["he"], ["help"]),
    (["train", "--opt"], ["--optimizer"]),
    (["train", "--optimizer", ""], ["sgd", "momentum", "nesterov", "adam", "adamw", "lbfgs"]),
    (["train", "--recipe", "di"], ["digits"]),
    (["train", "--schedule", "co"], ["constant", "cosine"]),
    (["report", ""], ["folder"]),
    (["evaluate", "a"], ["a file"]),
    (["train", "--data", ""], ["a file", "folder"]),
    (["help", "rec"], ["recipes"]),
])  # fmt: skip
def test_bash_completes_commands_options_values_and_files(words, expected, tmp_path, capsys):
    (tmp_path / "work" / "folder").mkdir(parents=True)
    (tmp_path / "work" / "a file").write_text("")
    (tmp_path / "script").write_text(_output(["completion", "bash"], capsys))
    command = ["bash", "-c", ASK, "bash", str(tmp_path / "script"), "fastnn", *words]
    result = subprocess.run(command, cwd=tmp_path / "work", capture_output=True, text=True)
    assert (sorted(result.stdout.splitlines()), result.stderr) == (sorted(expected), "")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_gets_a_script_with_all_commands_and_options(shell, capsys):
    script = _output(["completion", shell], capsys)
    assert all(command in script for command in COMMANDS)
    assert all(option in script for option in ("learning-rate", "nesterov", "digits", "quiet"))
    if shutil.which(shell):
        syntax = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert (syntax.returncode, syntax.stderr) == (0, "")
