"""Every wait, commit, barrier, arrive and fence of every kernel for NVIDIA, left out in turn: who notices?

    python bench/mutants.py                     all examples and the kernels of bench/gpu.py, in the simulator
    python bench/mutants.py --only matmul       those whose name has "matmul" in it
    python bench/mutants.py --write             and put the table into docs/simulator.md
    python bench/mutants.py --json FILE         keep the rows there, and go on from those that are there already

A row is a program for a target: its kernels that synchronise at all, their mutants, how many were a fault or a wrong
result, the survivors by reason (mutated/reasons.py checks each), and those without, for which it returns 1. Programs
whose kernels are the same for both targets are mutated once. No GPU is needed; all of it takes an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from mutated.launches import KernelRuns, kernels_of
from mutated.problems import TARGETS, names, subject
from mutated.reasons import REASONS, reason

from crosstile.targets.nvidia.simulator.mutants import Mutant, changes, judged, stricter

PAGE = Path(__file__).resolve().parents[1] / "docs" / "simulator.md"
BEGIN, END = "<!-- bench/mutants.py writes from here -->", "<!-- to here -->"


@dataclass
class Row:
    """What became of the mutants of one program for some targets, for which its kernels are the same."""

    name: str
    targets: list[str]
    kernels: int = 0
    mutants: int = 0
    faults: int = 0
    wrong: int = 0
    survivors: dict[str, int] = field(default_factory=dict[str, int])
    unexplained: list[str] = field(default_factory=list[str])


def mutate(name: str, targets: Sequence[str]) -> list[Row]:
    """The rows of a program."""
    rows: dict[tuple[str, ...], Row] = {}
    for target in targets:
        chosen = subject(name, target)
        kernels = kernels_of(chosen.program, chosen.calls)
        texts = tuple(re.sub(r"\.target.*", "", runs.ptx) for runs in kernels)
        if texts in rows:
            rows[texts].targets.append(target)
        else:
            rows[texts] = Row(name, [target])
            for runs in kernels:
                add_kernel(rows[texts], runs)
    return list(rows.values())


def add_kernel(row: Row, runs: KernelRuns) -> None:
    """Mutate one kernel."""
    todo = list(changes(runs.module.functions[runs.kernel]))
    if not todo:
        return
    found: list[Mutant] = []
    for change in todo:
        run = partial(runs.run, index=change.index)
        found.append(judged(runs.module, runs.kernel, change, run, run(runs.module)))
    row.kernels += 1
    row.mutants += len(found)
    row.faults += sum(one.outcome == "fault" for one in found)
    row.wrong += sum(one.outcome == "wrong" for one in found)
    where = f"{row.name} for {row.targets[0]}, kernel {runs.kernel}"
    for change, one in zip(todo, found, strict=True):
        if not one.caught:
            why = reason(runs, change, one, found)
            if why is None:
                row.unexplained.append(f"{where}: {one}")
            else:
                row.survivors[why] = row.survivors.get(why, 0) + 1
    alarms = (one for one in stricter(runs.module, runs.kernel, runs.run) if one.caught)
    row.unexplained += [f"{where}: false alarm: {one}" for one in alarms]


def table(rows: Sequence[Row]) -> str:
    """Markdown: the rows, and the reasons that they name."""
    lines = [
        "| program | target | kernels | mutants | faults | wrong results | survivors |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.mutants:
            kept = [f"{count} {why}" for why, count in row.survivors.items()]
            kept += [f"**{len(row.unexplained)} unexplained**"] * bool(row.unexplained)
            counts = f"{row.kernels} | {row.mutants} | {row.faults} | {row.wrong}"
            lines.append(f"| {row.name} | {', '.join(row.targets)} | {counts} | {', '.join(kept) or 'none'} |")
    total = (str(sum(getattr(row, one) for row in rows)) for one in ("kernels", "mutants", "faults", "wrong"))
    survivors = sum(sum(row.survivors.values()) + len(row.unexplained) for row in rows)
    lines.append(f"| **all** | | {' | '.join(total)} | {survivors} |")
    if without := list(dict.fromkeys(row.name for row in rows if row.mutants == 0)):
        lines.append(f"\nNothing to leave out: {', '.join(without)}.")
    used = {why for row in rows for why in row.survivors}
    lines += ["", *(f"- *{why}*: {one.text}." for why, one in REASONS.items() if why in used)]
    return "\n".join(lines) + "\n"


def written(page: str, found: str) -> str:
    """``page`` with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{found}\n{END}{after}"


def main() -> int:
    """Mutate, print the table; 1 if a survivor has no reason."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="programs whose name has a PART in it")
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=TARGETS, help="targets, both by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows there; those that are there are done")
    parser.add_argument("--write", action="store_true", help=f"put the table into docs/{PAGE.name}")
    arguments = parser.parse_args()
    wanted = names(arguments.only)
    done: dict[str, list[Row]] = {}
    if arguments.json is not None and arguments.json.exists():
        for one in json.loads(arguments.json.read_text(encoding="utf-8")):
            done.setdefault(one["name"], []).append(Row(**one))
    with ProcessPoolExecutor(arguments.jobs) as pool:
        begun = {pool.submit(mutate, name, arguments.target): name for name in wanted if name not in done}
        for ended in as_completed(begun):
            done[begun[ended]] = ended.result()
            for row in done[begun[ended]]:
                said = f"{row.mutants} mutants, {sum(row.survivors.values())} survive with reason"
                sys.stderr.write(f"{row.name} for {', '.join(row.targets)}: {said}\n")
                sys.stderr.write("".join(f"  without: {one}\n" for one in row.unexplained))
            sys.stderr.flush()
            if arguments.json is not None:
                every = [asdict(row) for rows in done.values() for row in rows]
                arguments.json.write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")
    rows = [row for name in wanted for row in done[name]]
    found = table(rows)
    sys.stdout.write(found)
    if arguments.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    return int(any(row.unexplained for row in rows))


if __name__ == "__main__":
    sys.exit(main())
