"""How fast one core is: crosstile, its peers and the core's own limits, in one run.

    python bench/cpu.py                                     # every row, every installed peer
    python bench/cpu.py --only softmax --peers numpy torch --rounds 5
    python bench/cpu.py --json cpu.json --picture roofline.png

Every contender is a process of its own, with its best settings, pinned to the same core; they take turns for at least
15 rounds, and medians count. What counts is processor time, so that a neighbour who takes the core away for a while
costs nobody; the wall's time is in the JSON. Every result is checked against float64 before anything is timed. The
peers are in the extra ``peers``; one that is not installed is reported as absent, and a program that does not compile
yet with its error. The table goes to stdout, progress and each row as it is done to stderr. The JSON is whole after
every row; an interrupt ends with the table of the rows so far.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from one_core.contender import PEERS
from one_core.report import Record, draw, line, packed_table, record, table
from one_core.rounds import Arena
from one_core.rows import ROWS, Row

from crosstile.tools.command_line import UsageError, check_writable, write_output

ROUNDS = 15
TRIAL = "matmul-16"
"""Not a row of the table unless asked for."""


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    """Measure and report."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description="crosstile and its peers on one core")
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=names, help=f"of {', '.join(names)}")
    parser.add_argument("--peers", nargs="*", metavar="NAME", choices=PEERS, default=PEERS, help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", metavar="FILE", help="write one object per row")
    parser.add_argument("--picture", metavar="FILE", help="draw every row under the roofline (a PNG; needs matplotlib)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds must be positive, found {arguments.rounds}")
    try:
        for path in filter(None, (arguments.json, arguments.picture)):
            check_writable(path)
    except UsageError as error:
        parser.error(str(error))
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib, which the extra 'peers' installs")
    wanted = [row for row in ROWS if (row.name in arguments.only if arguments.only else row.name != TRIAL)]
    records: list[Record] = []
    interrupted = False
    try:
        measure(wanted, arguments.peers, arguments.rounds, arguments.json, records)
    except KeyboardInterrupt:
        interrupted = True
        print(f"interrupted after {len(records)} of {len(wanted)} rows", file=sys.stderr)
    if records:
        report(records)
    if records and arguments.picture:
        draw(records, arguments.picture)
    return 130 if interrupted else 0


def measure(wanted: Sequence[Row], peers: Sequence[str], rounds: int, path: str | None, records: list[Record]) -> None:
    """Measure the rows one after the other and add their records, which are written to ``path`` after each."""
    begin = perf_counter()
    with Arena(["limits", "crosstile", *peers]) as arena:
        print(f"{processor()}, core {arena.core}, {date.today()}, {rounds} rounds")
        for name, about in arena.versions.items():
            print(f"  {name} {about['version']}: {about['settings']}")
        for name, error in arena.absent.items():
            print(f"  {name}: absent ({error})")
        sys.stdout.flush()
        for at, row in enumerate(wanted, 1):
            entry = record(row, arena.play(row, rounds, f"[{at}/{len(wanted)}] "))
            records.append(entry)
            if path:
                write_output(path, json.dumps(records, indent=1) + "\n")
            print(f"{line(entry)} (after {perf_counter() - begin:.0f} s)", file=sys.stderr)


def report(records: Sequence[Record]) -> None:
    """Print the tables, and why what is not in them is not."""
    print()
    print(table(records))
    if packed := packed_table(records):
        print(f"\n{packed}")
    for entry in records:
        for name, reason in {"crosstile": entry["error"], **entry["not_measured"]}.items():
            if reason:
                print(f"{entry['row']}: {name}: {reason.splitlines()[0][:160]}")


if __name__ == "__main__":
    sys.exit(main())
