"""Dimensions of arguments with their names, and the shapes that sizes by name give them. Plain data, no IR.

``nn.dims`` in a program gives names (``crosstile.dialects.nn.dims`` reads them). What follows from them is here because
a program in the cache is run without the compiler::

    dims = [Dim(0, 0, None, "M"), Dim(0, 1, None, "K"), Dim(1, 0, None, "K"), Dim(1, 1, 64, None)]
    shapes_of(dims, [0, 1], {"M": 3, "K": 5}, "main")        # {0: (3, 5), 1: (5, 64)}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crosstile.ir.diagnostics import CrosstileError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import LocationAttr


@dataclass(frozen=True)
class Dim:
    """Dimension ``dim`` of argument ``argument``: its size in the type (None for ``?``) and its name, if it has one."""

    argument: int
    dim: int
    size: int | None
    name: str | None


def names_of(dims: Sequence[Dim]) -> tuple[str, ...]:
    """The names of the dynamic dimensions, each once, in order of appearance: what ``shapes_of`` asks for."""
    static = {dim.name for dim in dims if dim.size is not None}
    return tuple(dict.fromkeys(dim.name for dim in dims if dim.name is not None and dim.name not in static))


def shapes_of(
    dims: Sequence[Dim],
    arguments: Iterable[int],
    sizes: Mapping[str, int],
    function: str,
    location: LocationAttr | None = None,
) -> dict[int, tuple[int, ...]]:
    """The shape of each of ``arguments``, which have ``dims``, with ``sizes`` for the named ones.

    Raises a CrosstileError for a name that is missing or unknown, a negative size, or a name with two sizes.
    """
    known: dict[str, int] = {}
    for dim in dims:
        if dim.name is not None and dim.size is not None and known.setdefault(dim.name, dim.size) != dim.size:
            raise CrosstileError(f"dimension '{dim.name}' has size {known[dim.name]} and size {dim.size}", location)
    names = names_of(dims)
    legal = f"the dimensions of '{function}' are {', '.join(names)}" if names else "all sizes are static"
    for name, size in sizes.items():
        if size < 0:
            raise CrosstileError(f"dimension '{name}' cannot have size {size}")
        if name in known and known[name] != size:
            raise CrosstileError(f"dimension '{name}' is {known[name]} in the program and cannot be {size}")
        if name not in known and name not in names:
            raise CrosstileError(f"no dimension is called '{name}': {legal}")
    known.update(sizes)
    if missing := [name for name in names if name not in known]:
        listed = ", ".join(map(repr, missing))
        what = f"the size of dimension {listed} is" if len(missing) == 1 else f"the sizes of dimensions {listed} are"
        raise CrosstileError(f"{what} not given: {legal}")
    shapes: dict[int, tuple[int, ...]] = dict.fromkeys(arguments, ())
    for dim in dims:
        size = known[dim.name or ""] if dim.size is None else dim.size
        shapes[dim.argument] = (*shapes[dim.argument], size)
    return shapes
