"""``crosstile-opt``: read a module, run passes, print it; mlir-opt's flags, every dialect and pass of ours and xDSL's.

In: MLIR text at any level. Out: the module after the passes, on standard output or in ``-o FILE``, whole or not at
all. Docs: docs/opt.md.

    crosstile-opt program.mlir --nn-to-nest --choose-schedule=target=host --canonicalize
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from crosstile.ir.diagnostics import CrosstileError, Diagnostic, handle_diagnostics
from crosstile.ir.registry import (
    DIALECTS,
    LEVELS,
    PASSES,
    dialect_factories,
    find_pass,
    pass_names,
    xdsl_pass_factories,
)
from crosstile.ir.rendering import error_diagnostic
from crosstile.ir.start_up import define_lazily
from crosstile.tools import pass_reports
from crosstile.tools.command_line import (
    ArgumentParser,
    ReportedError,
    UsageError,
    read_text,
    run_tool,
    show_diagnostic,
    show_error,
    unknown_argument,
    write_output,
)

if TYPE_CHECKING:
    from xdsl.context import Context
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.passes import ModulePass

    from crosstile.ir.pipeline import PassSpec

PROG = "crosstile-opt"
_SPLIT = re.compile(r"^// -----[ \t\r]*\n", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on ``argv`` and return its exit code."""
    return run_tool(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    parser = _argument_parser()
    remaining, passes = _take_pass_flags(argv, parser)
    arguments = parser.parse(remaining)
    for asked, text in (
        (arguments.help, partial(_help, parser)),
        (arguments.version, _version),
        (arguments.list_passes, _list_passes),
        (arguments.show_dialects, _show_dialects),
    ):
        if asked:
            write_output(None, text())
            return 0
    define_lazily()
    _Session(arguments, _pass_specs(arguments, passes)).run()
    return 0


def _argument_parser() -> ArgumentParser:
    parser = ArgumentParser(PROG, "Parse a module, run passes in the order given, print the result.")
    parser.add_argument("input", nargs="?", default="-", metavar="FILE", help="input file, '-' is standard input")
    parser.add_argument("-o", dest="output", metavar="FILE", help="output file, '-' is standard output")

    def flag(name: str, text: str) -> None:
        parser.add_argument(name, action="store_true", help=text)

    text = "passes as text: 'builtin.module(a,b{x=1})' or 'a,b{x=1}'"
    parser.add_argument("--pass-pipeline", metavar="PIPELINE", help=text)
    parser.add_argument(
        "--target", metavar="NAME", help="run the whole list of passes of this target ('host': this machine)"
    )
    flag("--split-input-file", "treat the pieces between '// -----' lines as separate modules")
    flag("--verify-diagnostics", "compare diagnostics with the '// expected-error {{...}}' comments of the input")
    pass_reports.add_flags(parser)
    flag("--dump-pass-pipeline", "print the passes that will run to standard error, as --pass-pipeline takes them")
    flag("--mlir-print-op-generic", "print operations in generic form")
    flag("--mlir-print-debuginfo", "print locations")
    flag("--mlir-print-local-scope", "print layouts and maps where they are used, without names for them")
    flag("--allow-unregistered-dialect", "accept operations, types and attributes of unknown dialects")
    flag("--list-passes", "list all passes and exit")
    flag("--show-dialects", "list all dialects and exit")
    flag("--debug", "show a Python traceback with every error")
    flag("--version", "print the versions and exit")
    parser.add_argument("-h", "--help", action="store_true", help="print this help and exit")
    return parser


def _take_pass_flags(argv: list[str], parser: ArgumentParser) -> tuple[list[str], list[tuple[str, str]]]:
    """Separate the pass flags, in their order, as (name, options text) from the other arguments.

    ``-flag`` is understood as ``--flag``, as in mlir-opt.
    """
    flags = set(parser.flags())
    takes_value = {"-o", "--pass-pipeline", "--target", *pass_reports.VALUES}
    remaining: list[str] = []
    passes: list[tuple[str, str]] = []
    known_passes: set[str] | None = None
    index = 0
    while index < len(argv):
        argument = argv[index]
        index += 1
        if argument == "--":
            remaining.extend(argv[index - 1 :])
            break
        name, _, value = argument.partition("=")
        if argument == "-" or not argument.startswith("-"):
            remaining.append(argument)
            continue
        if name not in flags and not name.startswith("--") and "-" + name in flags:
            argument, name = "-" + argument, "-" + name
        if name in flags:
            remaining.append(argument)
            if name in takes_value and "=" not in argument and index < len(argv):
                remaining[-1:] = [f"{name}={argv[index]}"] if name.startswith("--") else [name, argv[index]]
                index += 1
            continue
        if known_passes is None:
            known_passes = set(pass_names())
        pass_name = name.lstrip("-")
        if pass_name in known_passes:
            passes.append((pass_name, value))
        elif name.startswith("-o") and not name.startswith("--"):
            remaining.append(argument)
        else:
            raise UsageError(unknown_argument(argument, [*flags, *(f"--{known}" for known in known_passes)])).with_note(
                f"'{PROG} --help' lists the flags and passes"
            )
    return remaining, passes


def _pass_specs(arguments: argparse.Namespace, pass_flags: list[tuple[str, str]]) -> list[PassSpec]:
    from crosstile.ir.pipeline import PassSpec, parse_options, parse_pipeline

    given = [
        name
        for name, value in (
            ("pass flags", pass_flags),
            ("--pass-pipeline", arguments.pass_pipeline is not None),
            ("--target", arguments.target),
        )
        if value
    ]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} cannot be combined: the order of the passes would be unclear")
    if arguments.pass_pipeline is not None:
        return parse_pipeline(arguments.pass_pipeline)
    if arguments.target:
        from crosstile.tools.targets import target_pipeline

        return parse_pipeline(target_pipeline(arguments.target))
    return [PassSpec(name, parse_options(options)) for name, options in pass_flags]


class _Session:
    """One run over one input: its source text, the passes, and the errors met on the way."""

    def __init__(self, arguments: argparse.Namespace, specs: list[PassSpec]):
        from crosstile.ir.pipeline import make_pass, pipeline_text

        self.arguments = arguments
        self.passes = [make_pass(spec) for spec in specs]
        self.reports = pass_reports.PassReports(arguments, specs, self._print)
        if arguments.dump_pass_pipeline:
            sys.stderr.write(f"Pass Manager with {len(specs)} passes:\n{pipeline_text(specs)}\n")
        self.filename, self.text = read_text(arguments.input)
        self.diagnostics: list[Diagnostic] = []

    def run(self) -> None:
        """Process every chunk; output only if all went well, or as expected under ``--verify-diagnostics``."""
        outputs: list[str] = []
        failed = False
        report = self.diagnostics.append if self.arguments.verify_diagnostics else show_diagnostic
        with handle_diagnostics(report):
            for first_line, chunk in self._chunks():
                try:
                    outputs.append(self._process(chunk, first_line))
                except CrosstileError as error:
                    if self.arguments.verify_diagnostics:
                        self.diagnostics.append(error_diagnostic(error))
                    else:
                        failed = True
                        show_error(PROG, error, self.arguments.debug)
        if self.arguments.verify_diagnostics:
            failed = self._compare_diagnostics()
        if failed:
            raise ReportedError
        self.reports.finish()
        write_output(self.arguments.output, "\n// -----\n".join(outputs))

    def _chunks(self) -> list[tuple[int, str]]:
        """The pieces of the input with the line each starts at."""
        if not self.arguments.split_input_file:
            return [(1, self.text)]
        chunks: list[tuple[int, str]] = []
        line = 1
        for chunk in _SPLIT.split(self.text):
            chunks.append((line, chunk))
            line += chunk.count("\n") + 1
        return chunks

    def _process(self, chunk: str, first_line: int) -> str:
        from crosstile.ir.context import make_context
        from crosstile.ir.parsing import parse_module
        from crosstile.ir.verification import verify_module

        context = make_context(self.arguments.allow_unregistered_dialect)
        with self.reports.timed("(parse)"):
            module = parse_module(chunk, self.filename, context, first_line)
        with self.reports.timed("(verify)"):
            verify_module(module)
        if self.passes:
            self._run_passes(context, module)
        with self.reports.timed("(print)"):
            return self._print(module, context)

    def _run_passes(self, context: Context, module: ModuleOp) -> None:
        from crosstile.ir.passes import run_passes

        self.reports.begin()
        try:
            run_passes(context, module, self.passes, self.reports)
        except CrosstileError as error:
            self.reports.failed(module)
            if "internal error" not in error.message:
                raise
            pipeline = ",".join([*self.reports.done, self.reports.current])
            command = f"{PROG} {self.arguments.input} --pass-pipeline='builtin.module({pipeline})'"
            raise error.with_note(f"to reproduce: {command}") from error

    def _print(self, module: ModuleOp, context: Context | None = None) -> str:
        from crosstile.ir.printing import print_module

        arguments = self.arguments
        return print_module(
            module,
            arguments.mlir_print_op_generic,
            arguments.mlir_print_debuginfo,
            context,
            aliases=not arguments.mlir_print_local_scope,
        )

    def _compare_diagnostics(self) -> bool:
        from crosstile.tools.verify_diagnostics import compare_diagnostics

        failures = compare_diagnostics(self.filename, self.text, self.diagnostics)
        for failure in failures:
            show_error(PROG, failure, self.arguments.debug)
        return bool(failures)


def _help(parser: ArgumentParser) -> str:
    lines = [parser.format_help(), "\npasses, as --NAME or --NAME='option=value option=value,value':\n"]
    for level, title in LEVELS.items():
        rows = [row for row in PASSES if row.level == level]
        if rows:
            lines.append(f"\n  {level} - {title}:\n")
            lines += [_pass_line(row.name, find_pass(row.name), row.summary) for row in rows]
    lines.append("\n  xDSL's passes:\n")
    lines += [_pass_line(name, pass_type, summary) for name, pass_type, summary in _xdsl_passes()]
    return "".join(lines)


def _pass_line(name: str, pass_type: type[ModulePass] | None, summary: str) -> str:
    from crosstile.ir.pipeline import option_names

    options = option_names(pass_type) if pass_type is not None else []
    flag = f"--{name}" + (f"={{{','.join(options)}}}" if options else "")
    return f"    {flag:<40} {summary}".rstrip() + "\n"


def _xdsl_passes() -> list[tuple[str, type[ModulePass] | None, str]]:
    """Name, class and start of the documentation of each of xDSL's passes; no class if it cannot be imported."""
    from textwrap import shorten

    passes: list[tuple[str, type[ModulePass] | None, str]] = []
    for name, factory in sorted(xdsl_pass_factories().items()):
        try:
            pass_type = factory()
        except ImportError as error:
            passes.append((name, None, f"(not available: {error})"))
            continue
        paragraph = (pass_type.__dict__.get("__doc__") or "").strip().split("\n\n")[0]
        words = paragraph.split()
        # A dataclass without a docstring carries its signature, "Name(field: type)", as one.
        summary = "" if not words or re.match(r"\w+\(", words[0]) else " ".join(words)
        passes.append((name, pass_type, shorten(summary, 80, placeholder=" ...")))
    return passes


def _list_passes() -> str:
    listed = [(row.name, row.summary) for row in PASSES] + [(name, summary) for name, _, summary in _xdsl_passes()]
    return "".join(f"{name:<40} {summary}".rstrip() + "\n" for name, summary in listed)


def _show_dialects() -> str:
    summaries = {row.name: row.summary for row in DIALECTS}
    names = list(summaries) + sorted(set(dialect_factories()) - set(summaries))
    return "".join(f"{name:<16} {summaries.get(name, '')}".rstrip() + "\n" for name in names)


def _version() -> str:
    from importlib.metadata import version

    import crosstile

    return f"{PROG} {crosstile.__version__} (xdsl {version('xdsl')}, Python {sys.version.split()[0]})\n"


if __name__ == "__main__":
    sys.exit(main())
