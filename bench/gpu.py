"""Kernels on a real GPU: are they right, do matrix units add as the simulator says, and how fast are they.

    python bench/gpu.py [--json FILE] [--svg FILE] [--only PART ...]     a GPU, torch, and triton if it is there
    python bench/gpu.py --simulate                                       the same, tiny, in the simulator

Three parts, in under 8 minutes (``--seconds`` ends it earlier: rows that are left say so): every kind of kernel against
float64 (``right``); mma.sync and wgmma on 10^5 vectors against the simulator's arithmetic, bit by bit (``bits``); and
products, attention, rows, elementwise and convolutions beside torch and Triton, by events of the GPU (``fast``). What
cannot be compiled yet is a row that says why.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import ml_dtypes
import numpy as np
from measured_gpu.bits import differing
from measured_gpu.picture import roofline
from measured_gpu.problems import NUMPY_NAMES, Problem, checks, speeds

import crosstile
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.host import resolve_machine
from crosstile.targets.nvidia.driver import CudaDevice
from crosstile.targets.nvidia.run import Device, SimulatedDevice
from crosstile.tools.device import gpu
from crosstile.tools.gpu_function import GpuFunction

PARTS = ("right", "bits", "fast")
ERRORS = {"float64": 1e-12, "float32": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2, "int32": 0.0}
"""Of the largest number of the answer, by the type of the result."""
TARGETS = {"sm_80": "sm_80", "sm_90": "sm_90a"}
Row = dict[str, Any]


@dataclass
class Bench:
    """One run: on ``device``, programs compiled for ``target``; ``rows`` are what was found so far."""

    device: Device
    target: str
    name: str
    limit: float
    begin: float = field(default_factory=perf_counter)
    rows: list[Row] = field(default_factory=list[Row])
    functions: dict[str, GpuFunction] = field(default_factory=dict[str, GpuFunction])

    @property
    def simulates(self) -> bool:
        """Whether there is no GPU, and sizes are tiny."""
        return isinstance(self.device, SimulatedDevice)

    def add(self, part: str, name: str, **found: Any) -> None:
        """A row, printed when it is known."""
        self.rows.append({"part": part, "name": name, **found})
        said = " ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in found.items()
        )
        sys.stdout.write(f"{perf_counter() - self.begin:5.0f} s {part:<6} {name:<34} {said}\n")
        sys.stdout.flush()

    def attempt(self, part: str, problem: Problem) -> None:
        """A row of a problem, or why there is none."""
        if perf_counter() - self.begin > self.limit:
            self.add(part, problem.name, left="out: no time")
            return
        try:
            if problem.text not in self.functions:
                self.functions[problem.text] = cast("GpuFunction", crosstile.compile(problem.text, self.target))
            function = self.functions[problem.text]
            (self.check if part == "right" else self.measure)(function, problem)
        except (CrosstileError, RuntimeError, NotImplementedError) as error:
            message = error.message if isinstance(error, CrosstileError) else str(error)
            self.add(part, problem.name, **{"not supported": message.splitlines()[0]})

    def check(self, function: GpuFunction, problem: Problem) -> None:
        """Compare every number with float64's."""
        random = np.random.default_rng(0)
        given: list[Any] = []
        for element, shape in problem.arguments:
            name = NUMPY_NAMES[element]
            dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
            is_integer = dtype.kind in "iu"
            given.append((random.integers(-8, 9, shape) if is_integer else random.standard_normal(shape)).astype(dtype))
        if problem.fill is not None:
            problem.fill(given)
        found = function(*given)
        answer = problem.answer(*(one.astype(np.float64) for one in given))
        error = float(np.abs(found.astype(np.float64) - answer).max() / max(1e-30, float(np.abs(answer).max())))
        self.add("right", problem.name, right=bool(error <= max(ERRORS[found.dtype.name], problem.loses)), error=error)

    def measure(self, function: GpuFunction, problem: Problem) -> None:
        """The seconds of a call, ours and others' in the same run; in the simulator only that it runs."""
        if self.simulates:
            given = [
                np.zeros(shape, getattr(ml_dtypes, NUMPY_NAMES[e], None) or NUMPY_NAMES[e])
                for e, shape in problem.arguments
            ]
            function(*given)
            self.add("fast", problem.name, crosstile="simulated")
            return
        from measured_gpu.contenders import arrays, by_torch, by_triton, seconds

        given = arrays(problem)
        out = function(*given)
        theirs = by_torch(problem, given)
        expected = theirs().float().reshape(-1)[: 1 << 24]
        mine = out.float().permute(0, 3, 1, 2) if problem.kind == "conv2d" else out.float()
        difference = float((mine.reshape(-1)[: 1 << 24] - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
        found = {"crosstile": seconds(lambda: function(*given, out=out)), "torch": seconds(theirs)}
        try:
            if (other := by_triton(problem, given)) is not None:
                found["triton"] = seconds(other)
        except Exception as error:  # whatever a peer's compiler raises is the peer's row
            sys.stdout.write(f"       triton: {type(error).__name__}\n")
        rates: Row = {"times torch": found["torch"] / found["crosstile"], "like torch": bool(difference < 3e-2)}
        if problem.operations:
            rates |= {f"{who} TFLOP/s": problem.operations / spent / 1e12 for who, spent in found.items()}
        else:
            rates |= {f"{who} GB/s": problem.moved / spent / 1e9 for who, spent in found.items()}
        self.add("fast", problem.name, **rates, seconds=found, operations=problem.operations, moved=problem.moved)

    def bits(self) -> None:
        """The arithmetic of the matrix units."""
        blocks = 2 if self.simulates else 1000
        units = ("mma", "wgmma") if self.target.startswith("sm_90") else ("mma",)
        for unit in units:
            for element in ("bf16", "f16"):
                wrong, total = differing(self.device, unit, element, self.target, blocks)
                self.add("bits", f"{unit} {element}", equal=wrong == 0, different=wrong, vectors=total)

    def picture(self) -> str:
        """The roofline of what was measured."""
        row = resolve_machine(self.target)
        peak = max(row.peak(one) for one in row.intrinsics if one.lhs.element == "bf16")
        bandwidth = next(one.bandwidth for one in row.memories if one.name == "main") * row.clock
        points = [
            (who, found["name"], found["operations"] / found["moved"], found["operations"] / spent)
            for found in self.rows
            if found.get("operations")
            for who, spent in found["seconds"].items()
        ]
        return roofline(f"crosstile on {self.name}", peak, bandwidth, points)

    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return all(row.get(key, True) for row in self.rows for key in ("right", "equal", "like torch"))


def open_bench(simulate: bool, target: str, limit: float) -> Bench:
    """The GPU, or the simulator where it is asked for; raises CrosstileError where there is no GPU."""
    if simulate:
        return Bench(SimulatedDevice(target), target, f"simulated {target}", limit)
    device: CudaDevice = gpu()
    capability = f"{device.architecture[:4]}0"
    if capability not in TARGETS:
        raise CrosstileError(f"{device.name} is {device.architecture}; there are kernels for sm_80 and sm_90a")
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise CrosstileError("torch is not installed: kernels are compared with its own") from error
    del torch
    return Bench(device, TARGETS[capability], device.name, limit)


def main() -> int:
    """Run the parts, print rows as they are known, write JSON and picture; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--simulate", action="store_true", help="tiny sizes in the simulator, without a GPU")
    parser.add_argument("--target", choices=tuple(TARGETS.values()), default="sm_90a", help="what --simulate simulates")
    parser.add_argument("--seconds", type=float, default=450.0, help="begin nothing after so many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the roofline there")
    arguments = parser.parse_args()
    try:
        bench = open_bench(arguments.simulate, arguments.target, arguments.seconds)
    except CrosstileError as error:
        sys.stderr.write(f"bench/gpu.py: {error.message}; --simulate runs tiny sizes in the simulator\n")
        return 2
    sys.stdout.write(f"on {bench.name}, programs for {bench.target}\n")
    if "right" in arguments.only:
        for problem in checks(bench.simulates):
            bench.attempt("right", problem)
    if "bits" in arguments.only:
        bench.bits()
    if "fast" in arguments.only:
        if not bench.simulates:
            from measured_gpu.contenders import copy_seconds

            spent, moved = copy_seconds()
            bench.add("fast", "device copy", **{"torch GB/s": moved / spent / 1e9})
        for problem in speeds(bench.simulates):
            bench.attempt("fast", problem)
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"device": bench.name, "rows": bench.rows}, indent=2) + "\n", encoding="utf-8"
        )
    if arguments.svg is not None:
        arguments.svg.write_text(bench.picture(), encoding="utf-8")
    return 0 if bench.ok() else 1


if __name__ == "__main__":
    sys.exit(main())
