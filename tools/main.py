"""``crosstile``: one command with subcommands, each imported only when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import cast

from crosstile.ir.registry import did_you_mean, load_object
from crosstile.tools.command_line import UsageError, run_tool, unknown_argument, write_output

PROG = "crosstile"

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("crosstile.tools.run:main", "compile a program for this machine, run it, report time and throughput"),
    "check": ("crosstile.tools.check:main", "run a program at every level and compare with its float64 reference"),
    "opt": ("crosstile.tools.opt:main", "run passes on a module and print it (crosstile-opt)"),
    "translate": ("crosstile.tools.translate:main", "print a program as LLVM IR, assembly or object code"),
    "cache": (
        "crosstile.tools.cache:main",
        "say where compiled programs are kept and how large they are, or delete them",
    ),
    "simulate": ("crosstile.tools.simulator:main", "run a kernel of a PTX file without a GPU, with everything checked"),
    "machines": ("crosstile.tools.machines:main", "list the machines, or say what is known of one, or of an intrinsic"),
}
"""Each subcommand: where its ``main(argv) -> int`` is, and its line of help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to the subcommand that the first argument names and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        command = cast("Callable[[Sequence[str]], int]", load_object(COMMANDS[arguments[0]][0]))
        return command(arguments[1:])
    return run_tool(PROG, _without_command, arguments)


def _without_command(arguments: list[str]) -> int:
    if "--version" in arguments:
        import crosstile

        write_output(None, f"{PROG} {crosstile.__version__}\n")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        write_output(None, _help())
        return 0 if arguments else 1
    if arguments[0].startswith("-"):
        raise UsageError(unknown_argument(arguments[0], ["--help", "--version"])).with_note(_known())
    raise UsageError(f"unknown command '{arguments[0]}'{did_you_mean(arguments[0], list(COMMANDS))}").with_note(
        _known()
    )


def _known() -> str:
    return f"commands: {', '.join(COMMANDS)}"


def _help() -> str:
    lines = "".join(f"  {name:<12} {summary}\n" for name, (_, summary) in COMMANDS.items())
    return f"usage: {PROG} COMMAND ...\n\ncommands:\n{lines}\n'{PROG} COMMAND --help' says more about each.\n"


if __name__ == "__main__":
    sys.exit(main())
