"""``crosstile-translate``: a program as LLVM IR, assembly or an object file, or as PTX, a cubin or SASS.

In: a program at any level down to ``mma``. Out: text, or an object file, on standard output or in ``-o FILE``, whole or
not at all. Docs: docs/translate.md.

    crosstile-translate program.mlir --to asm
    crosstile-translate program.mlir --target x86-64-avx2 --to obj -o program.o
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from crosstile.ir.diagnostics import CrosstileError, handle_diagnostics
from crosstile.ir.start_up import define_lazily
from crosstile.targets.host import default_target
from crosstile.tools.command_line import (
    ArgumentParser,
    UsageError,
    run_tool,
    show_diagnostic,
    write_output,
)
from crosstile.tools.targets import EMITTERS, emitter_of, find_machine

PROG = "crosstile-translate"
BINARY = {"obj": "an object file", "cubin": "a cubin"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on ``argv`` and return its exit code."""
    return run_tool(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    formats = "".join(f"\n  {name:<8} {text}" for name, text in _formats().items())
    parser = ArgumentParser(PROG, "Compile a program and write it down.", f"forms of --to:{formats}")
    parser.add_argument("input", nargs="?", metavar="FILE", help="the program, '-' is standard input")
    parser.add_argument("-o", dest="output", metavar="FILE", help="output file, '-' is standard output")
    parser.add_argument("--to", metavar="FORM", help="what to write")
    parser.add_argument(
        "--target",
        default=default_target(),
        metavar="NAME",
        help="the machine; CROSSTILE_TARGET or host (this one) if not given",
    )
    parser.add_argument(
        "--from", dest="start", default="nn", metavar="LEVEL", help="the program's level: nn, nest, tile or mma"
    )
    parser.add_argument("--entry", metavar="NAME", help="the function that the program starts with")
    parser.add_argument("--debug", action="store_true", help="show a Python traceback with every error")
    parser.add_argument("-h", "--help", action="store_true", help="print this help and exit")
    arguments = parser.parse(argv)
    if arguments.help:
        write_output(None, parser.format_help())
        return 0
    if arguments.input is None:
        parser.error("which program? give a file, or '-' for standard input")
    if arguments.to is None:
        raise UsageError(f"which form? --to is one of {', '.join(_formats())}")

    define_lazily()
    from crosstile.tools.program import Program

    with handle_diagnostics(show_diagnostic):
        emitter = emitter_of(find_machine(arguments.target))
        _check_form(arguments.to, arguments.output, emitter.FORMATS, arguments.target)
        program = Program.load(arguments.input, arguments.target, arguments.start, arguments.entry)
        try:
            data = emitter.emit(program.lowered(), program.machine, arguments.to)
        except CrosstileError as error:
            raise error.with_note(f"the program is lowered for {program.machine.name}") from error
    write_output(arguments.output, data)
    return 0


def _formats() -> dict[str, str]:
    """What can be written for some machine."""
    found: dict[str, str] = {}
    for path in dict.fromkeys(EMITTERS.values()):
        found |= import_module(path).FORMATS
    return found


def _check_form(form: str, output: str | None, formats: Mapping[str, str], target: str) -> None:
    """``form`` is one of the machine's ``formats``, and not bytes for a terminal."""
    if form not in formats:
        from crosstile.ir.registry import did_you_mean

        others = [family for family, path in EMITTERS.items() if form in import_module(path).FORMATS]
        known = f" for {target}" if others else ""
        hint = "" if others else did_you_mean(form, list(formats))
        note = f"; targets of {' and '.join(others)} have '{form}' (--target)" if others else ""
        raise UsageError(f"unknown form '{form}'{known}{hint}; --to is one of {', '.join(formats)}{note}")
    if form in BINARY and output in (None, "-") and sys.stdout.isatty():
        raise UsageError(f"{BINARY[form]} is not written to a terminal: give -o FILE")


if __name__ == "__main__":
    sys.exit(main())
