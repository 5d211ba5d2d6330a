"""``crosstile COMMAND``: dispatch and what it says to wrong commands."""

from __future__ import annotations

import pytest
from command import call

from crosstile.tools import main, opt


def test_opt_is_crosstile_opt():
    assert call(main.main, "opt", "--version").out == call(opt.main, "--version").out
    assert call(main.main, "opt", stdin="builtin.module {\n}\n").out == "builtin.module {\n}\n"


def test_help_lists_every_command():
    result = call(main.main, "--help")
    assert result.code == 0
    for name, (_, summary) in main.COMMANDS.items():
        assert f"  {name} " in result.out and summary in result.out
    assert call(main.main).out == result.out
    assert call(main.main).code == 1
    assert call(main.main, "--version").out == "crosstile 0.1.0\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("chek", "crosstile: error: unknown command 'chek'; did you mean 'check'?\n"),
        ("frobnicate", "crosstile: error: unknown command 'frobnicate'\n"),
        ("--hepl", "crosstile: error: unknown flag '--hepl'; did you mean '--help'?\n"),
    ],
)
def test_wrong_commands(argument: str, message: str):
    result = call(main.main, argument)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"{message}note: commands: {', '.join(main.COMMANDS)}\n"
