"""What a run found: one record per row, the table as text and as Markdown, and the roofline picture.

A record is what ``--json`` writes::

    {"row": "softmax", "ours": 6.1e-3, "limit": 2.9e-3, "share": 0.48, "peers": {"numpy": 2.1e-2, ...},
     "ratio_to_best": 1.2, "best": "onnxruntime", ...}

Seconds are medians over the rounds; ``limit`` is what the core needs at least: the row's operations at the measured
rate of multiply-adds, or its bytes at the measured bandwidth, whichever is longer. A ``ratio_to_best`` of 1 or more is
ahead; within 2 % at 95 % of the limit is level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from statistics import median
from typing import Any

from one_core.rounds import Outcome
from one_core.rows import Row

Record = dict[str, Any]
NEAR = 0.1
"""Points of the picture that are less than so many powers of ten apart, along both axes, have their numbers together.
"""


def record(row: Row, outcomes: Sequence[Outcome]) -> Record:
    """The record of one row. Without a result of ours, ``ours`` is None and ``error`` says why."""
    rates = [pair for outcome in outcomes for pair in outcome.rates]
    # A limit is not exceeded: the best of the rounds is closest to it.
    peak, bandwidth = (max(column) for column in zip(*rates, strict=True)) if rates else (0.0, 0.0)
    limit = max(row.operations / peak, row.bytes / bandwidth) if rates else None
    ours, bound = (
        next((each for each in outcomes if each.contender == "crosstile" and each.packed == packed), None)
        for packed in (False, True)
    )
    peers = [outcome for outcome in outcomes if outcome.contender not in ("crosstile", "limits")]
    times = {outcome.name: outcome.seconds for outcome in peers if outcome.measured and not outcome.packed}
    packed = {outcome.name: outcome.seconds for outcome in peers if outcome.measured and outcome.packed}
    best = min(times, key=lambda name: times[name]) if times else None
    best_packed = min(packed, key=lambda name: packed[name]) if packed else None
    mine = ours.seconds if ours is not None and ours.measured else None
    mine_packed = bound.seconds if bound is not None and bound.measured else None
    ratio, ratio_packed = _ratio(peers, best, ours), _ratio(peers, best_packed, bound)
    return {
        "row": row.name,
        "element": row.element,
        "operations": row.operations,
        "bytes": row.bytes,
        "peak": peak,
        "bandwidth": bandwidth,
        "ours": mine,
        "ours_wall": median(ours.wall) if ours is not None and ours.measured else None,
        "error": ours.reason if ours is not None else "not run",
        "limit": limit,
        "share": limit / mine if limit and mine else None,
        "aim": row.aim,
        "peers": times,
        "packed": packed,
        "ours_packed": mine_packed,
        "best_packed": best_packed,
        "ratio_to_best_packed": ratio_packed,
        "standing_packed": _standing(ratio_packed, limit / mine_packed if limit and mine_packed else None),
        "not_measured": {outcome.name: outcome.reason for outcome in peers if outcome.reason},
        "best": best,
        "best_share": limit / times[best] if limit and best else None,
        "ratio_to_best": ratio,
        "standing": _standing(ratio, limit / mine if limit and mine else None),
    }


def _ratio(peers: Sequence[Outcome], best: str | None, ours: Outcome | None) -> float | None:
    """The median over the rounds of the best peer's time over ours; None if either has none."""
    if ours is None or not ours.measured or best is None:
        return None
    theirs = next(outcome for outcome in peers if outcome.name == best)
    return median(his / my for his, my in zip(theirs.cpu, ours.cpu, strict=True))


def _standing(ratio: float | None, share: float | None) -> str:
    if ratio is None:
        return "-"
    if ratio >= 1.0:
        return "ahead"
    return "level" if ratio >= 0.98 and (share or 0) >= 0.95 else "behind"


def rate(record: Record, seconds: float | None) -> str:
    """Seconds as GFLOP/s where arithmetic bounds the row, as GB/s where memory does."""
    if seconds is None:
        return "-"
    work = record["operations"] if compute_bound(record) else record["bytes"]
    found = work / seconds / 1e9
    return f"{found:.1f}" if found < 100 else f"{found:.0f}"


def compute_bound(record: Record) -> bool:
    """Whether the limit is arithmetic."""
    return not record["limit"] or record["operations"] / record["peak"] >= record["bytes"] / record["bandwidth"]


def table(records: Sequence[Record]) -> str:
    """The table, which is Markdown as well."""
    names = list(dict.fromkeys(name for entry in records for name in (*entry["peers"], *entry["packed"])))
    head = ["row", "unit", "limit", "crosstile", "share", "aim", "best peer", "ratio", "", *names]
    lines = [head, ["---"] * len(head)]
    for entry in records:
        times = entry["peers"] | entry["packed"]
        share, ratio, best_share = (entry[key] for key in ("share", "ratio_to_best", "best_share"))
        lines.append(
            [
                entry["row"],
                "GFLOP/s" if compute_bound(entry) else "GB/s",
                rate(entry, entry["limit"]),
                rate(entry, entry["ours"]) if entry["ours"] else "not built yet",
                f"{share:.0%}" if share else "-",
                f"{entry['aim']:.0%}",
                f"{entry['best']} {best_share:.0%}" if best_share else str(entry["best"] or "-"),
                f"{ratio:.2f}" if ratio else "-",
                entry["standing"],
                *(rate(entry, times.get(name)) for name in names),
            ]
        )
    return _aligned(lines)


def packed_table(records: Sequence[Record]) -> str:
    """The rows with weights: ours, bound ahead of the call, against the peers that pack theirs. Empty without any."""
    head = ["row, weights packed ahead", "unit", "limit", "crosstile packed", "share", "best peer", "ratio", ""]
    lines = [head, ["---"] * len(head)]
    for entry in records:
        ours, best, limit = entry["ours_packed"], entry["best_packed"], entry["limit"]
        if not ours and not best:
            continue
        theirs = entry["packed"].get(best)
        lines.append(
            [
                entry["row"],
                "GFLOP/s" if compute_bound(entry) else "GB/s",
                rate(entry, limit),
                rate(entry, ours),
                f"{limit / ours:.0%}" if limit and ours else "-",
                f"{best} {rate(entry, theirs)}" if best else "-",
                f"{entry['ratio_to_best_packed']:.2f}" if entry["ratio_to_best_packed"] else "-",
                entry["standing_packed"],
            ]
        )
    return _aligned(lines) if len(lines) > 2 else ""


def line(entry: Record) -> str:
    """One row in a line: our rate, the best peer's, who is ahead."""
    unit = "GFLOP/s" if compute_bound(entry) else "GB/s"
    if not entry["ours"]:
        return f"{entry['row']}: crosstile {entry['error'] or 'was not measured'}"
    found = f"{entry['row']}: {rate(entry, entry['ours'])} {unit}"
    if entry["best"]:
        found += f", {entry['best']} {rate(entry, entry['peers'][entry['best']])}, ratio {entry['ratio_to_best']:.2f}"
    return found


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as Markdown, the columns as wide as their widest cell."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width, "-" if cell == "---" else " ") for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def draw(records: Sequence[Record], path: str) -> None:
    """One picture: operations per byte against operations per second, ours and the best peer under the roofs.

    Rows have numbers, which a list beside the picture explains; those of points that nearly meet stand together.
    """
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    measured = [entry for entry in records if entry["limit"]]
    figure, axes = pyplot.subplots(figsize=(12, 6.5))
    # The slope is what memory gives; sets that fit a cache are faster and have their own limit.
    bandwidth = float(max(measured, key=lambda entry: entry["bytes"])["bandwidth"])
    intensities = [10 ** (exponent / 20 - 1) for exponent in range(90)]
    for element in dict.fromkeys(entry["element"] for entry in measured):
        peak = max(entry["peak"] for entry in measured if entry["element"] == element)
        roof = [min(peak, bandwidth * each) / 1e9 for each in intensities]
        axes.plot(intensities, roof, "-", linewidth=1, label=f"limit, {element}: {peak / 1e9:.0f} GFLOP/s")
    groups: dict[tuple[float, float], list[int]] = {}
    for at, entry in enumerate(measured):
        x = entry["operations"] / entry["bytes"]
        best = entry["peers"].get(entry["best"])
        points = ((entry["ours"], "o", "tab:blue", "crosstile"), (best, "x", "tab:red", "best peer"))
        for found, marker, colour, label in points:
            if found:
                y = entry["operations"] / found / 1e9
                axes.plot([x], [y], marker, color=colour, markersize=5, label=label if at == 0 else None)
        seconds = [each for each in (entry["ours"], best) if each] or [entry["limit"]]
        place = math.log10(x), math.log10(entry["operations"] / min(seconds) / 1e9)
        beside = next(
            (other for other in groups if all(abs(a - b) < NEAR for a, b in zip(place, other, strict=True))), place
        )
        groups.setdefault(beside, []).append(at + 1)
    for place, numbers in groups.items():
        point, text = (10 ** place[0], 10 ** place[1]), ", ".join(map(str, numbers))
        axes.annotate(text, point, xytext=(-2, 6), textcoords="offset points", fontsize=7)
    key = "\n".join(f"{at + 1:2}  {entry['row']}" for at, entry in enumerate(measured))
    axes.text(1.02, 1, key, transform=axes.transAxes, va="top", fontsize=8, family="monospace", linespacing=1.5)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="GFLOP/s (Gop/s for int8), one core")
    axes.set_title(f"Every row under the measured limits; memory {bandwidth / 1e9:.0f} GB/s")
    axes.grid(alpha=0.3, which="both", linewidth=0.4)
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
