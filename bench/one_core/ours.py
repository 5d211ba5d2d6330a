"""Crosstile as a contender, and the core's own limits measured in the same rounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, UnitAttr
from xdsl.dialects.func import FuncOp

import crosstile
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.ir.printing import print_module
from one_core.contender import Contender, NotBuilt
from one_core.limits import bandwidth, peak
from one_core.rows import Array, Row


class Crosstile(Contender):
    """The compiler of this project, one thread, a preallocated result."""

    settings: ClassVar[str] = "target host, threads=1, preallocated result; packed: weights bound"

    def version(self) -> str:
        """The version in the project's file."""
        for line in (Path(crosstile.__file__).parent / "pyproject.toml").read_text().splitlines():
            if line.startswith("version = "):
                return line.split('"')[1]
        raise ImportError("pyproject.toml has no version")

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Callable[[], Any]:
        """Compile the program for this machine."""
        if row.kind.endswith("attention"):
            inputs = [array[np.newaxis] for array in inputs]
        try:
            function = crosstile.compile(_marked(row) if packed else row.text)
            if packed:
                weights = dict(zip(function.weight_names, [inputs[at] for at in row.weights], strict=True))
                function, inputs = function.bind(**weights), _without(inputs, row.weights)
            out = function(*inputs, threads=1)
        except CrosstileError as error:
            raise NotBuilt(str(error)) from error
        self._batched = row.kind.endswith("attention")
        return lambda: function(*inputs, out=out, threads=1)

    def result(self, value: Any) -> Array:
        """Heads of attention come in a batch of one."""
        return value[0] if self._batched else value


def _marked(row: Row) -> str:
    """The program with its weights marked."""
    module = parse_module(row.text, row.name, make_context())
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    marks = [dict(given.data) for given in function.arg_attrs or [DictionaryAttr({})] * len(row.inputs())]
    for at in row.weights:
        marks[at]["nn.weight"] = UnitAttr()
    function.arg_attrs = ArrayAttr([DictionaryAttr(mark) for mark in marks])
    return print_module(module)


def _without(inputs: list[Array], positions: tuple[int, ...]) -> list[Array]:
    return [array for at, array in enumerate(inputs) if at not in positions]


class Limits(Contender):
    """A call measures the rates that bound a row: operations and bytes per second."""

    settings: ClassVar[str] = "multiply-adds in registers; memory read, or copied, at the row's working set"

    def version(self) -> str:
        """There is one."""
        return "measured"

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Callable[[], Any]:
        """The two rates of the core for this row."""
        return lambda: (peak(row.element), bandwidth(row.traffic, row.bytes))

    def result(self, value: Any) -> Array:
        """Operations and bytes per second."""
        return np.array(value)
