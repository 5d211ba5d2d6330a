"""What a run counts: instructions, jumps, bytes, and the turns that shared memory takes.

Level: the simulator. In: events of the run. Out: :class:`Counts`, from which the report is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Lanes = NDArray[Any]

BANKS = 32
BANK_BYTES = 4


class BankUse:
    """One instruction's accesses to shared memory: how often, the turns they took and the fewest possible."""

    def __init__(self) -> None:
        self.accesses = 0
        self.turns = 0
        self.fewest = 0
        self.banks: NDArray[np.int64] = np.zeros(BANKS, np.int64)
        """Words moved through each bank."""
        self.first: tuple[NDArray[np.int64], int] | None = None
        """The addresses of the first warp that came here, and the bytes that each lane moved."""

    @property
    def ways(self) -> float:
        """Turns taken per turn needed: 1 without conflicts."""
        return self.turns / self.fewest if self.fewest else 1.0


class Counts:
    """Per instruction: warps that executed it and jumped back from it; per memory: bytes read and written."""

    def __init__(self, instructions: int):
        self.executed = [0] * instructions
        self.jumps = [0] * instructions
        self.bytes: dict[str, int] = {}
        self.banks: dict[int, BankUse] = {}
        self.warps = 0
        self.blocks = 0

    def add_bytes(self, name: str, count: int) -> None:
        """``count`` more bytes of the traffic ``name``."""
        self.bytes[name] = self.bytes.get(name, 0) + count

    def add_shared(self, site: int, addresses: Lanes, warps: Lanes, lanes: Lanes, width: int) -> None:
        """Lanes ``lanes`` of ``warps`` access ``width`` bytes each at ``addresses``; all three [accesses].

        Accesses of 8 and 16 bytes are served a half and a quarter of a warp at a time; lanes that touch the same word
        share it.
        """
        use = self.banks.get(site)
        if use is None:
            use = self.banks[site] = BankUse()
            first = warps == warps[0]
            use.first = (np.asarray(addresses[first], np.int64), width)
        words = max(1, width // BANK_BYTES)
        phases = max(1, words)
        phase = warps * phases + lanes * phases // 32
        word = (addresses >> 2)[:, np.newaxis] + np.arange(words) if words > 1 else (addresses >> 2)[:, np.newaxis]
        keys = np.unique((phase[:, np.newaxis] << 24) + word)
        row = keys >> 24
        row -= row[0]
        bank = keys & (BANKS - 1)
        table = np.bincount(row * BANKS + bank, minlength=(int(row[-1]) + 1) * BANKS).reshape(-1, BANKS)
        use.accesses += 1
        use.turns += int(table.max(axis=1).sum())
        use.fewest += int(-(-table.sum(axis=1) // BANKS).sum())
        use.banks += table.sum(axis=0)
