"""Rounds: every contender takes its turn in each, on the same core, and its results are checked.

In: rows and names of contenders. Out: one ``Outcome`` per contender and row: median seconds over the rounds, or why
there are none.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from time import sleep
from types import TracebackType
from typing import Any, cast

import numpy as np

from one_core.contender import PACKING, environment
from one_core.rows import Array, Row

BENCH = Path(__file__).resolve().parents[1]
PATIENCE = 180.0
"""Seconds that one request may take; a contender that needs longer is given up for the row."""


@dataclass
class Outcome:
    """What one contender did on one row: the seconds of a call in each round, or the reason why there are none."""

    contender: str
    packed: bool
    reason: str = ""
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The contender's name; with ``packed``, its own column."""
        return f"{self.contender} packed" if self.packed else self.contender

    @property
    def seconds(self) -> float:
        """The median seconds of processor time of one call."""
        return median(self.cpu)

    @property
    def measured(self) -> bool:
        """Whether there is a result, and it was right."""
        return bool(self.cpu) and not self.reason


class Process:
    """A contender in its own process, pinned to one core; it is started again after a crash or a timeout."""

    def __init__(self, name: str, core: int):
        self.name = name
        self._core = core
        self._process: subprocess.Popen[str] | None = None

    def ask(self, **request: object) -> dict[str, Any]:
        """The answer to one request; a dead or silent process answers with an error."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
            line = process.stdout.readline() if ready else ""
        except BrokenPipeError:
            line = ""
        if line:
            return cast(dict[str, Any], json.loads(line))
        self.stop()
        if not process.returncode or process.returncode == -9:
            return {"error": f"no answer in {PATIENCE:.0f} s"}
        return {"error": f"the process ended with exit code {process.returncode}"}

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.communicate()
        self._process = None

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, (str(BENCH), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-m", "one_core.worker", self.name],
            env={**os.environ, **environment(self.name), "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {self._core}),
        )


class Arena:
    """The contenders' processes, all on one core, and their turns."""

    def __init__(self, names: Iterable[str]):
        self.core = idlest_core()
        self.contenders = {name: Process(name, self.core) for name in names}
        self.versions: dict[str, dict[str, str]] = {}
        self.absent: dict[str, str] = {}
        for name, process in list(self.contenders.items()):
            answer = process.ask(do="version")
            if "error" in answer:
                self.absent[name] = answer["error"]
                self.contenders.pop(name).stop()
            else:
                self.versions[name] = answer

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        for process in self.contenders.values():
            process.stop()

    def play(self, row: Row, rounds: int, place: str = "") -> list[Outcome]:
        """All contenders on one row: prepare and check each, then take turns. ``place`` stands before what it says."""
        entries = [Outcome(name, packed=False) for name in self.contenders]
        entries += [Outcome(name, packed=True) for name in self.contenders if name in PACKING and row.weights]
        expected = row.reference(row.inputs())
        # In another order in each round: a core's clock depends on what ran before, so being second is no advantage.
        order = Random(row.name)
        # One process keeps one prepared call: the packed entries take their rounds after the others.
        for packed in (False, True):
            group = [entry for entry in entries if entry.packed == packed]
            self._prepare(group, row, expected, place)
            for _ in range(rounds):
                self._round(order.sample(group, len(group)))
        return entries

    def _prepare(self, entries: Sequence[Outcome], row: Row, expected: Array, place: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "result.npy"
            for entry in entries:
                print(f"{place}{row.name}: {entry.name}", file=sys.stderr)
                process = self.contenders[entry.contender]
                answer = process.ask(do="prepare", row=row.name, packed=entry.packed, output=str(output))
                entry.reason = _reason(answer)
                if not entry.reason and output.exists():
                    error = row.error(np.load(output), expected)
                    if error > 1:
                        entry.reason = f"wrong: the error is {error:.3g} times what is allowed"
                output.unlink(missing_ok=True)

    def _round(self, entries: Sequence[Outcome]) -> None:
        for entry in entries:
            if entry.reason:
                continue
            answer = self.contenders[entry.contender].ask(do="time")
            entry.reason = _reason(answer)
            if entry.reason:
                continue
            if "rates" in answer:
                entry.rates.append(tuple(answer["rates"]))
            else:
                entry.cpu.append(answer["cpu"])
                entry.wall.append(answer["wall"])


def _reason(answer: dict[str, Any]) -> str:
    if "not_built" in answer:
        return f"not built yet: {answer['not_built']}"
    return f"failed: {answer['error']}" if "error" in answer else ""


def idlest_core() -> int:
    """Of the cores this process may use, the one that others used least in the last moments."""
    before = _busy()
    sleep(0.5)
    after = _busy()
    return min(sorted(os.sched_getaffinity(0), reverse=True), key=lambda core: after[core] - before[core])


def _busy() -> dict[int, int]:
    """Ticks that each core worked so far, from ``/proc/stat``."""
    found: dict[int, int] = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(each) for each in fields]
            # Fields 3 and 4 are idle time and time waiting for a device.
            found[int(name[3:])] = sum(ticks[:8]) - ticks[3] - ticks[4]
    return found
