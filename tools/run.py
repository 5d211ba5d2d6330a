"""``crosstile run``: compile a program for this machine, run it, and say how fast it was.

In: a program, and arguments from a file or random ones. Out: shapes, times, operations per second next to the measured
peak of this machine, as text or JSON, and the results in ``--outputs``. With ``--level`` the program runs in NumPy at
that level instead. Docs: docs/run.md.

    crosstile run examples/matmul.mlir --dim M=1000 --dim N=999 --dim K=1001 --random 0
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from crosstile.ir.diagnostics import handle_diagnostics
from crosstile.targets.host import default_target
from crosstile.tools.command_line import (
    ArgumentParser,
    Progress,
    UsageError,
    check_writable,
    run_tool,
    show_diagnostic,
    write_output,
)

if TYPE_CHECKING:
    from crosstile.dialects.element_types import Array
    from crosstile.targets.model import Machine
    from crosstile.tools.on_demand import ProgramOnDemand

PROG = "crosstile run"
LONG_RUN = 0.5
"""Seconds; without ``--repeat`` a run that takes less is repeated until so many have passed, ``MOST_REPEATS`` times."""
MOST_REPEATS = 20
SAMPLES = {"tile": (1e8, 8), "mma": (1e7, 2)}
"""In NumPy, programs of more operations than the first run about as many instances of each kernel as the second."""

Report = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on ``argv`` and return its exit code."""
    return run_tool(PROG, _run, argv)


def add_program_flags(parser: ArgumentParser) -> None:
    """The flags that say which program, for which machine, on which arguments; ``check`` has them too."""
    from crosstile.tools.arguments import add_input_flags

    parser.add_argument("input", nargs="?", metavar="FILE", help="the program, '-' is standard input")
    parser.add_argument("--entry", metavar="NAME", help="the function to run (main, or the only one)")
    parser.add_argument(
        "--target",
        default=default_target(),
        metavar="NAME",
        help="the machine; CROSSTILE_TARGET or host (this one) if not given",
    )
    parser.add_argument(
        "--from", dest="start", default="nn", metavar="LEVEL", help="the program's level: nn, nest, tile or mma"
    )
    add_input_flags(parser)
    parser.add_argument("--threads", metavar="N", help="how many threads share each kernel")
    parser.add_argument("--sample", metavar="N", help="in NumPy: run about N instances of each kernel, or 'all'")
    parser.add_argument("--json", action="store_true", help="write the report as JSON")
    parser.add_argument("--debug", action="store_true", help="show a Python traceback with every error")
    parser.add_argument("-h", "--help", action="store_true", help="print this help and exit")


class GivenPath(str):
    """A path, whatever characters it has."""

    def __fspath__(self) -> str:
        return str(self)


def positive(flag: str, text: str | None) -> int | None:
    """The number that a flag gives, None if it was not given."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{flag} needs a number from 1, found '{text}'")
    return int(text)


def sample_size(text: str | None, level: str, operations: int) -> int | None:
    """How many instances of a kernel to run in NumPy, None for all; by default that depends on the work."""
    if text == "all" or level not in SAMPLES:
        return None
    most, sample = SAMPLES[level]
    return positive("--sample", text) or (sample if operations > most else None)


def _run(argv: list[str]) -> int:
    parser = ArgumentParser(PROG, "Compile a program for this machine, run it, and say how fast it was.")
    add_program_flags(parser)
    parser.add_argument("--outputs", metavar="FILE.npz", help="write the results, as arr_0, arr_1, ...")
    parser.add_argument(
        "--level",
        metavar="LEVEL",
        help="run nn, nest, tile, mma or hardware in NumPy instead of machine code",
    )
    parser.add_argument("--repeat", metavar="N", help="time so many runs, after one that is not timed")
    parser.add_argument(
        "--bind", action="store_true", help="pack the arguments marked {nn.weight} once, ahead of the runs"
    )
    arguments = parser.parse(argv)
    if arguments.help:
        write_output(None, parser.format_help())
        return 0
    threads, repeat = positive("--threads", arguments.threads), positive("--repeat", arguments.repeat)
    _check_flags(arguments)
    if arguments.input is None:
        parser.error("which program? give a file, or '-' for standard input")
    with handle_diagnostics(show_diagnostic):
        from crosstile.tools.arguments import program_inputs
        from crosstile.tools.on_demand import ProgramOnDemand

        program = ProgramOnDemand(
            GivenPath(arguments.input), arguments.target, arguments.start, arguments.entry, arguments.bind
        )
        inputs = program_inputs(arguments, program.parameters)
        if arguments.level is None and program.machine.warp_lanes is not None:
            if arguments.bind:
                raise UsageError(
                    f"--bind packs weights for cores of a CPU: kernels of {arguments.target} take them as they are"
                )
            if threads is not None:
                raise UsageError(
                    f"--threads is for cores of a CPU: a kernel for {arguments.target} says how many threads it has"
                )
            report, results = _run_device(program, inputs, repeat)
        elif arguments.level is None:
            report, results = _run_compiled(program, inputs, threads, repeat, arguments.bind)
        else:
            report, results = _run_level(program, inputs, arguments, threads)
    if arguments.outputs is not None:
        write_arrays(arguments.outputs, results)
    write_output(None, json.dumps(report, indent=2) + "\n" if arguments.json else _text(report))
    return 0


def _check_flags(arguments: argparse.Namespace) -> None:
    """Refuse flags that would have no effect, and a file that cannot be written."""
    if arguments.level == "llvm":
        raise UsageError("level 'llvm' does not run in NumPy: without --level it runs as machine code")
    if arguments.level is not None and arguments.repeat is not None:
        raise UsageError("--repeat and --level cannot be combined: a level in NumPy is not timed")
    if arguments.bind and arguments.level is not None:
        raise UsageError("--bind and --level cannot be combined: a level in NumPy is given its weights as they are")
    if arguments.sample is not None and arguments.level not in SAMPLES:
        raise UsageError(f"--sample is for --level {' and --level '.join(SAMPLES)}, whose kernels have instances")
    if arguments.outputs == "-":
        raise UsageError("--outputs needs a file: the report goes to standard output")
    if arguments.outputs is not None:
        check_writable(arguments.outputs)


def _run_compiled(
    program: ProgramOnDemand, inputs: list[Array], threads: int | None, repeat: int | None, bind: bool
) -> tuple[Report, list[Array]]:
    from crosstile.targets.x86.peak import measured_peak
    from crosstile.tools.api import choose_workers
    from crosstile.tools.on_demand import cached_peak_code

    with Progress("compiling"):
        compiled = program.compile()
    function, given, begin = compiled.function, inputs, perf_counter()
    weights: Mapping[str, int] = function.signature.weights if bind else {}
    if bind:
        if not weights:
            raise UsageError("--bind packs weights, and no argument of the program is marked {nn.weight}")
        function = function.bind({position: inputs[position] for position in weights.values()})
        given = [array for position, array in enumerate(inputs) if position not in weights.values()]
    packed = perf_counter() - begin
    plan = function.keep_plan(given)
    results = function.empty_results(plan)
    workers = choose_workers(threads, plan)
    with Progress("running"):
        times = _times(lambda: function.run(plan, given, results, workers), repeat)
    phases = dict(compiled.seconds)
    report: Report = {
        **_description(program, inputs, results),
        "threads": workers,
        "kernels": compiled.kernels,
        "compile_seconds": {**phases, "total": sum(phases.values())},
        "seconds": {"best": min(times), "median": median(times), "runs": len(times)},
    }
    if weights:
        report["bound"] = {"weights": list(weights), "seconds": packed}
    operations = program.operations([array.shape for array in inputs])
    report["operations"] = operations
    if operations:
        element = _peak_element(program.machine, inputs, results)
        with Progress("measuring the peak"):
            peak = measured_peak(program.machine, element, workers, cached_peak_code)
        speed = operations / min(times)
        report["gflops"], report["peak_gflops"], report["share_of_peak"] = speed / 1e9, peak / 1e9, speed / peak
    return report, results


def _run_device(program: ProgramOnDemand, inputs: list[Array], repeat: int | None) -> tuple[Report, list[Array]]:
    """On the GPU of this machine, or else in the simulator, whose time says nothing of a GPU's."""
    from crosstile.targets.nvidia.driver import CudaDevice
    from crosstile.tools.gpu_function import GpuFunction

    operations = program.operations([array.shape for array in inputs])
    with Progress("compiling"):
        function = GpuFunction(program.device_code(), operations or 0)
    on_gpu = isinstance(function.device, CudaDevice)
    if repeat is not None and not on_gpu:
        raise UsageError(f"--repeat times the runs of a GPU, and here kernels are {function.where}")
    begin, before = perf_counter(), sum(function.compile_seconds.values())
    with Progress(f"running on {function.where}"):
        if on_gpu:
            given = [function.to_device(array) for array in inputs]
            found = function(*given)
            results = [array.numpy() for array in _all_of(found)]
            times = function.time(*given, repeat=repeat or MOST_REPEATS)
        else:
            found = function(*inputs)
            results = _all_of(found)
            times = [perf_counter() - begin - (sum(function.compile_seconds.values()) - before)]
    phases = function.compile_seconds
    report: Report = {
        **_description(program, inputs, results),
        "kernels": function.kernels,
        "compile_seconds": {**phases, "total": sum(phases.values())},
        "seconds": {"best": min(times), "median": median(times), "runs": len(times)},
        "device": function.where,
        "operations": operations,
    }
    if on_gpu and operations:
        report["gflops"] = operations / min(times) / 1e9
    return report, results


def _all_of(found: Any) -> list[Any]:
    """The results of a call: one, or a tuple of several."""
    return list(cast("tuple[Any, ...]", found)) if isinstance(found, tuple) else [found]


def _peak_element(machine: Machine, inputs: list[Array], results: list[Array]) -> str:
    """The element type whose peak a program is held against: f64 if it computes in that, bf16 if it has it and the
    machine multiplies it, else f32."""
    if any(array.dtype.itemsize == 8 for array in results):
        return "f64"
    multiplies = any(row.lhs.element == "bf16" for row in machine.intrinsics)
    return "bf16" if multiplies and any(array.dtype.name == "bfloat16" for array in inputs) else "f32"


def _run_level(
    program: ProgramOnDemand, inputs: list[Array], arguments: argparse.Namespace, threads: int | None
) -> tuple[Report, list[Array]]:
    from crosstile.tools.evaluate import evaluate_level

    if arguments.level == "hardware" and program.machine.warp_lanes is not None:
        raise UsageError("level 'hardware' of a GPU's program does not run in NumPy: without --level its PTX runs")
    program.program.at(arguments.level)
    operations = program.operations([array.shape for array in inputs])
    sample = sample_size(arguments.sample, arguments.level, operations or 0)
    begin = perf_counter()
    with Progress(f"running level {arguments.level} in NumPy"):
        evaluation = evaluate_level(program.program, arguments.level, inputs, threads or 1, sample)
    times = [perf_counter() - begin]
    report: Report = {
        **_description(program, inputs, evaluation.results),
        "level": arguments.level,
        "seconds": {"best": min(times), "median": median(times), "runs": len(times)},
        "operations": operations,
        "sampled": evaluation.sampled,
        "share_computed": evaluation.share,
    }
    if evaluation.instances:
        report["instances"], report["instances_run"] = evaluation.instances, evaluation.instances_run
    return report, evaluation.results


def _times(call: Any, repeat: int | None) -> list[float]:
    """The seconds of each timed run; the first run, which meets cold memory, is not one of them."""
    call()
    times: list[float] = []
    while len(times) < (repeat or MOST_REPEATS):
        begin = perf_counter()
        call()
        times.append(perf_counter() - begin)
        if repeat is None and sum(times) > LONG_RUN:
            break
    return times


def _description(program: ProgramOnDemand, inputs: Sequence[Array], results: Sequence[Array]) -> Report:
    def row(name: str, array: Array) -> Report:
        return {"name": name, "type": str(array.dtype), "shape": list(array.shape)}

    names = program.parameters.names
    return {
        "program": program.source,
        "entry": program.entry,
        "machine": program.machine.name,
        "inputs": [row(*pair) for pair in zip(names, inputs, strict=True)],
        "results": [row(f"arr_{position}", array) for position, array in enumerate(results)],
    }


def write_arrays(path: str, results: Sequence[Array]) -> None:
    """Write arrays as ``arr_0``, ``arr_1`` ... of an ``.npz`` file, completely or not at all."""
    import numpy as np

    stream = io.BytesIO()
    np.savez(stream, *results)
    write_output(path, stream.getvalue())


def _text(report: Report) -> str:
    lines = [f"@{report['entry']} of {os.path.basename(report['program'])} on {report['machine']}"]
    for what in ("inputs", "results"):
        for row in report[what]:
            shape = "x".join(map(str, row["shape"])) or "rank 0"
            lines.append(f"  {what[:-1]:<8} {row['name']:<10} {row['type']:<8} {shape}")
    if "kernels" in report:
        lines.append(f"  kernels  {', '.join(report['kernels']) or 'none'}")
        lines += _compile_lines(report["compile_seconds"])
    if "bound" in report:
        names, spent = ", ".join(report["bound"]["weights"]), duration(report["bound"]["seconds"])
        lines.append(f"  bound    {names}: packed once, in {spent}")
    seconds = report["seconds"]
    if "device" in report:
        where = report["device"]
    else:
        where = f"level {report['level']}, in NumPy" if "level" in report else _count(report["threads"], "thread")
    runs = "" if seconds["runs"] == 1 else f" (best of {seconds['runs']}, median {duration(seconds['median'])})"
    lines.append(f"  time     {duration(seconds['best'])}{runs}, {where}")
    if report.get("sampled"):
        run, instances = report["instances_run"], report["instances"]
        share = f"{100 * report['share_computed']:.3g} % of the results"
        lines.append(f"  sampled  {run} of {instances} instances of the kernels were run: {share}, the rest is NaN")
    if "gflops" in report:
        speed = f"  speed    {_three(report['gflops'])} GFLOP/s"
        if "peak_gflops" in report:
            speed += (
                f", {100 * report['share_of_peak']:.3g} % of the {_three(report['peak_gflops'])} measured with "
                f"{_count(report['threads'], 'thread')}"
            )
        lines.append(speed)
    return "\n".join(lines) + "\n"


def _compile_lines(seconds: dict[str, float]) -> list[str]:
    phases = [f"{name} {1e3 * spent:.3g}" for name, spent in seconds.items() if name != "total"]
    lines = [f"  compile  {duration(seconds['total'])}; milliseconds:"]
    for phase in phases:
        if len(lines[-1]) + len(phase) > 108:
            lines.append("          ")
        lines[-1] += f" {phase}" if phase == phases[-1] else f" {phase},"
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _three(number: float) -> str:
    """Three digits, without an exponent."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}" if number >= 0.001 else f"{number:.1g}"


def duration(seconds: float) -> str:
    """A time as a person says it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale or unit == "us":
            return f"{seconds / scale:.3g} {unit}"
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
