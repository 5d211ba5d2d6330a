"""``crosstile check``: is the program right, at every level and as machine code?

In: a program, and arguments from a file or random ones. Out: a line per level with the largest error in units in the
last place and in units of the derived bound; on a mismatch the first pass after which the answer is wrong and the worst
element. Exit code 0 if all is right, 1 if not. Docs: docs/check.md.

    crosstile check examples/softmax.mlir --dim M=17 --dim N=100
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crosstile.ir.diagnostics import handle_diagnostics
from crosstile.ir.start_up import define_lazily
from crosstile.tools.command_line import (
    ArgumentParser,
    Progress,
    ReportedError,
    run_tool,
    show_diagnostic,
    show_error,
    write_output,
)
from crosstile.tools.run import (
    SAMPLES,
    GivenPath,
    add_program_flags,
    duration,
    positive,
    sample_size,
)

if TYPE_CHECKING:
    from crosstile.tools.judge import Element, Report, Verdict
    from crosstile.tools.program import Program

PROG = "crosstile check"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on ``argv`` and return its exit code."""
    return run_tool(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    parser = ArgumentParser(PROG, "Run a program at every level and as machine code, and compare with its reference.")
    add_program_flags(parser)
    arguments = parser.parse(argv)
    if arguments.help:
        write_output(None, parser.format_help())
        return 0
    threads = positive("--threads", arguments.threads)
    if arguments.input is None:
        parser.error("which program? give a file, or '-' for standard input")
    with handle_diagnostics(show_diagnostic):
        define_lazily()
        from crosstile.tools.api import check_threads, default_threads
        from crosstile.tools.arguments import Parameters, program_inputs
        from crosstile.tools.judge import Judge
        from crosstile.tools.operation_count import operations_of
        from crosstile.tools.program import Program

        program = Program.load(GivenPath(arguments.input), arguments.target, arguments.start, arguments.entry)
        inputs = program_inputs(arguments, Parameters.of(program))
        operations = operations_of(program, [array.shape for array in inputs]) or 0
        samples = {level: sample_size(arguments.sample, level, operations) for level in SAMPLES}
        with Progress() as progress:
            workers = check_threads("threads", threads or max(2, default_threads()))
            judge = Judge(program, inputs, workers, samples, operations)
            judge.announce = progress.say
            report = judge.run()
    write_output(
        None, json.dumps(_json(program, report), indent=2) + "\n" if arguments.json else _text(program, report)
    )
    for verdict in report.verdicts:
        if verdict.error is not None:
            show_error(PROG, verdict.error, arguments.debug)
    if not report.right:
        raise ReportedError
    return 0


def _json(program: Program, report: Report) -> dict[str, Any]:
    def number(value: float) -> float | str:
        return value if math.isfinite(value) else str(value)

    def element(worst: Element | None) -> dict[str, Any] | None:
        if worst is None:
            return None
        values = {"got": number(worst.got), "expected": number(worst.expected), "bound": number(worst.bound)}
        return {"result": worst.result, "index": list(worst.index), **values}

    levels = [
        {
            "level": verdict.level,
            "right": verdict.right,
            "ulps": number(verdict.ulps),
            "share_of_bound": number(verdict.share),
            "bound_over_error": number(1 / verdict.share if verdict.share else math.inf),
            "undetermined": verdict.undetermined,
            "worst": element(verdict.worst),
            "remarks": verdict.remarks,
            "seconds": verdict.seconds,
            "error": None if verdict.error is None else verdict.error.message,
        }
        for verdict in report.verdicts
    ]
    return {
        "program": program.source,
        "entry": program.entry,
        "machine": program.machine.name,
        "right": report.right,
        "first_wrong_pass": report.culprit,
        "levels": levels,
    }


def _text(program: Program, report: Report) -> str:
    lines = [f"@{program.entry} of {os.path.basename(program.source)} on {program.machine.name}"]
    lines.append(f"  {'level':<13} {'verdict':<8} {'error':>11} {'bound/error':>12} {'time':>8}")
    for verdict in report.verdicts:
        lines += _level_lines(verdict)
    if program.start != "nn":
        lines.append(f"  errors are differences from level {program.start}: a program without nn has no error bound")
    wrong = next((verdict for verdict in report.verdicts if not verdict.right), None)
    if wrong is None:
        return "\n".join([*lines, "right"]) + "\n"
    if wrong.error is not None:
        lines.append(f"not checked further: {wrong.level} failed")
    elif report.culprit is None:
        lines.append(f"wrong: level {wrong.level}, where the program starts")
    else:
        lines.append(f"wrong: the first pass after which the answer is wrong is {report.culprit}")
    if wrong.error is None and wrong.worst is not None:
        worst = wrong.worst
        lines.append(f"  worst element: [{', '.join(map(str, worst.index))}] of result {worst.result} at {wrong.level}")
        lines.append(f"  got {worst.got:.9g}, expected {worst.expected:.9g}, bound {worst.bound:.3g}")
    return "\n".join(lines) + "\n"


def _level_lines(verdict: Verdict) -> list[str]:
    if verdict.error is not None:
        return [f"  {verdict.level:<13} {'failed':<8}"]
    word = "right" if verdict.right else "WRONG"
    ratio = "exact" if not verdict.share else f"{1 / verdict.share:.3g}"
    ulps = f"{verdict.ulps:.3g} ulp"
    line = f"  {verdict.level:<13} {word:<8} {ulps:>11} {ratio:>12} {duration(verdict.seconds):>8}"
    remarks = list(verdict.remarks)
    if verdict.undetermined:
        remarks.append(f"{verdict.undetermined} elements are not determined: their bound is infinite")
    return [line, *(f"  {'':<13} {remark}" for remark in remarks)]


if __name__ == "__main__":
    sys.exit(main())
