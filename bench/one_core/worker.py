"""A contender's process: reads one JSON request per line, answers with one JSON object per line.

Requests: ``{"do": "prepare", "row": "softmax", "packed": false, "output": "/tmp/x.npy"}`` computes the row once and
saves the result; ``{"do": "time"}`` answers with the seconds of one call, by the wall and of the processor, averaged
over enough calls to be measurable. Whatever libraries print goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from time import perf_counter, process_time
from typing import Any, cast

import numpy as np

from one_core.contender import NotBuilt, load
from one_core.rows import ROWS

SECONDS = 0.02
"""How long the calls of one round take together, at least."""


class Worker:
    """The state between requests: the contender and the call that was prepared."""

    def __init__(self, name: str):
        self._contender = load(name)
        self._is_limits = name == "limits"
        self._calls = 1
        self._call: Any = None

    def version(self) -> dict[str, object]:
        """The version and settings of the contender."""
        return {"version": self._contender.version(), "settings": self._contender.settings}

    def prepare(self, row: str, packed: bool, output: str) -> dict[str, object]:
        """Compile, run once, save the result, and find how many calls make a round."""
        self._call = None
        found = next(candidate for candidate in ROWS if candidate.name == row)
        self._call = self._contender.prepare(found, found.inputs(), packed)
        if self._is_limits:
            return {}
        array = self._contender.result(self._call())
        np.save(output, array if array.dtype.kind == "i" else array.astype(np.float32))
        begin = perf_counter()
        self._call()
        self._calls = max(1, round(SECONDS / max(perf_counter() - begin, 1e-7)))
        return {}

    def time(self) -> dict[str, object]:
        """The seconds of one call; for the limits what they measured."""
        if self._is_limits:
            return {"rates": [float(rate) for rate in self._contender.result(self._call())]}
        # After a pause, or other work, a core takes milliseconds to come back to the clock of wide multiply-adds; what
        # comes first also finds others' data in the caches.
        for _ in range(-(-self._calls // 2)):
            self._call()
        wall, processor = perf_counter(), process_time()
        for _ in range(self._calls):
            self._call()
        return {"wall": (perf_counter() - wall) / self._calls, "cpu": (process_time() - processor) / self._calls}

    def answer(self, request: dict[str, Any]) -> dict[str, object]:
        """Do what ``request`` says."""
        match request["do"]:
            case "version":
                return self.version()
            case "prepare":
                return self.prepare(request["row"], request["packed"], request["output"])
            case _:
                return self.time()


def main() -> int:
    """Serve until the requests end."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker: Worker | None = None
    for line in sys.stdin:
        try:
            worker = worker or Worker(sys.argv[1])
            reply = worker.answer(cast(dict[str, Any], json.loads(line)))
        except NotBuilt as error:
            reply = {"not_built": str(error)}
        except Exception as error:  # a peer may fail in any way; the others go on
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
