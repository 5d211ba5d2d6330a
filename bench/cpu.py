"""How fast one core is: crosstile, its peers and the core's own limits, in one run.

    python bench/cpu.py                                     # every row, every installed peer
    python bench/cpu.py --only softmax --peers numpy torch --rounds 5
    python bench/cpu.py --json cpu.json --picture roofline.png

Every contender is a process of its own, with its best settings, pinned to the same core; they take turns for at least
15 rounds, and medians count. What counts is processor time, so that a neighbour who takes the core away for a while
costs nobody; the wall's time is in the JSON. Every result is checked against float64 before anything is timed. The
peers are in the extra ``peers``; one that is not installed is reported as absent, and a program that does not compile
yet with its error. The table goes to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import date
from pathlib import Path

from one_core.contender import PEERS
from one_core.report import Record, draw, packed_table, record, table
from one_core.rounds import Arena
from one_core.rows import ROWS

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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one object per row")
    parser.add_argument("--picture", metavar="FILE", help="draw every row under the roofline (a PNG; needs matplotlib)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds must be positive, found {arguments.rounds}")
    wanted = [row for row in ROWS if (row.name in arguments.only if arguments.only else row.name != TRIAL)]
    records: list[Record] = []
    with Arena(["limits", "crosstile", *arguments.peers]) as arena:
        print(f"{processor()}, core {arena.core}, {date.today()}, {arguments.rounds} rounds")
        for name, about in arena.versions.items():
            print(f"  {name} {about['version']}: {about['settings']}")
        for name, error in arena.absent.items():
            print(f"  {name}: absent ({error})")
        for row in wanted:
            entry = record(row, arena.play(row, arguments.rounds))
            records.append(entry)
            if arguments.json:
                arguments.json.write_text(json.dumps(records, indent=1) + "\n")
    print()
    print(table(records))
    if packed := packed_table(records):
        print(f"\n{packed}")
    for entry in records:
        for name, reason in {"crosstile": entry["error"], **entry["not_measured"]}.items():
            if reason:
                print(f"{entry['row']}: {name}: {reason.splitlines()[0][:160]}")
    if arguments.picture:
        draw(records, arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
