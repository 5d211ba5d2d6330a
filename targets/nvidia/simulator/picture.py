"""A picture of what a kernel did: shared memory at work, and the fragments of its matrix instructions.

Level: the simulator. In: a report. Out: SVG text. Shared memory has one row for every instruction that touches it and
one cell for every bank: the darker a cell, the more words went through the bank; the number in it is the lane, of the
first warp that came here, whose word lies there first, and the row ends with the turns that an access took where one
would do. Fragments are below (:mod:`fragment_picture`).
"""

from __future__ import annotations

from html import escape

from crosstile.targets.nvidia.simulator import fragment_picture
from crosstile.targets.nvidia.simulator.counts import BANK_BYTES, BANKS, BankUse
from crosstile.targets.nvidia.simulator.report import Report

CELL = 20
ROW = 24
LEFT = 60
TOP = 56
RIGHT = 560


def kernel_picture(report: Report) -> str:
    """The SVG text."""
    uses = report.shared_accesses
    fragments = fragment_picture.drawings(report.executed)
    top = TOP + ROW * max(1, len(uses)) + 16
    width = max([LEFT + BANKS * CELL + RIGHT, *map(fragment_picture.width, fragments)])
    height = top + sum(map(fragment_picture.height, fragments))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="monospace" font-size="10">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(8, 18, f"shared memory of kernel {report.kernel.name}: words through each bank", 13),
        _text(8, TOP - 8, "PTX line"),
    ]
    lines += [_text(LEFT + bank * CELL + 4, TOP - 8, str(bank)) for bank in range(BANKS)]
    for row, (instruction, use) in enumerate(uses):
        lines += _row(TOP + row * ROW, instruction.line, use, str(instruction))
    for drawing in fragments:
        lines += fragment_picture.draw(drawing, top)
        top += fragment_picture.height(drawing)
    return "\n".join([*lines, "</svg>", ""])


def _row(top: int, line: int, use: BankUse, text: str) -> list[str]:
    most = max(1, int(use.banks.max()))
    lanes = _first_lanes(use)
    parts = [_text(8, top + 14, str(line))]
    for bank in range(BANKS):
        share = int(use.banks[bank]) / most
        # From white to the blue of a free access, or the red of a conflict.
        full = (31, 119, 180) if use.turns == use.fewest else (200, 60, 40)
        red, green, blue = (round(255 - share * (255 - channel)) for channel in full)
        x = LEFT + bank * CELL
        parts.append(
            f'<rect x="{x}" y="{top}" width="{CELL - 1}" height="{ROW - 4}" fill="rgb({red},{green},{blue})" '
            'stroke="#ccc"/>'
        )
        if bank in lanes:
            parts.append(_text(x + 3, top + 14, str(lanes[bank])))
    note = f"{use.ways:.3g} way{'s' if use.ways > 1 else ''}  {text}"
    return [*parts, _text(LEFT + BANKS * CELL + 8, top + 14, note[:88])]


def _first_lanes(use: BankUse) -> dict[int, int]:
    """By bank: the lowest lane of the first warp that touched it."""
    found: dict[int, int] = {}
    if use.first is not None:
        addresses, size = use.first
        for lane, address in enumerate(addresses.tolist()):
            for word in range(max(1, size // BANK_BYTES)):
                found.setdefault((address // BANK_BYTES + word) % BANKS, lane)
    return found


def _text(x: int, y: int, text: str, size: int = 10) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}">{escape(text)}</text>'
