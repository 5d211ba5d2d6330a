"""Locations that survive rewriting, in every pass, xDSL's own included.

Inside ``inherit_locations(module)``:

- an op that a pattern inserts without a location gets that of the op the pattern matched;
- an op that replaces another gets the fusion of both locations;
- whatever a pass builds in another way gets, at the end, the location of the op that uses it, or of its parent.

xDSL offers no hook that passes could not forget to use, so its rewriters' entry points are wrapped while a pass runs;
private xDSL state (the matched op of a rewriter) is read here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

from xdsl.dialects.builtin import UnknownLoc
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter
from xdsl.rewriter import InsertPoint, Rewriter

from crosstile.ir.diagnostics import fuse_locations

_CREATED = "crosstile_created"
_lock = RLock()
_depth = 0
_insert = PatternRewriter.insert
_replace = PatternRewriter.replace
_replace_op = Rewriter.replace_op


@contextmanager
def inherit_locations(module: Operation) -> Generator[None]:
    """Inside the ``with`` statement rewrites of ``module`` keep locations; at its end no op is without one."""
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            _install(_inserting, _replacing, _replacing_op)
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _install(_insert, _replace, staticmethod(_replace_op))
    complete_locations(module)


def complete_locations(module: Operation) -> None:
    """Give every op without a location that of its first located user, or else of its parent."""
    for op in module.walk():
        if isinstance(op.location, UnknownLoc):
            users = (use.operation for result in op.results for use in result.uses)
            located = (user.location for user in users if not isinstance(user.location, UnknownLoc))
            parent = op.parent_op()
            op.location = next(located, op.location if parent is None else parent.location)


def _install(insert: Any, replace: Any, replace_op: Any) -> None:
    setattr(PatternRewriter, "insert", insert)  # noqa: B010 - the attributes are declared methods
    setattr(PatternRewriter, "replace", replace)  # noqa: B010
    setattr(Rewriter, "replace_op", replace_op)  # noqa: B010


def _inserting(self: PatternRewriter, op: Any, insertion_point: InsertPoint | None = None) -> Any:
    ops = _as_ops(op)
    matched = self._current_operation  # pyright: ignore[reportPrivateUsage]
    if matched is not None:
        _inherit(ops, matched)
    _created(self).update(ops)
    return _insert(self, op, insertion_point)


def _replacing(
    self: PatternRewriter,
    op: Operation,
    new_ops: Operation | Sequence[Operation],
    new_results: Sequence[SSAValue | None] | None = None,
    safe_erase: bool = True,
) -> None:
    ops = _as_ops(new_ops)
    # A value that this pattern made earlier stands for several operations; one that was there before does not.
    created = _created(self).difference(ops)
    owners = [value.owner for value in new_results or () if value is not None]
    _fuse([*ops, *(owner for owner in owners if isinstance(owner, Operation) and owner in created)], op)
    _replace(self, op, new_ops, new_results, safe_erase)


def _created(rewriter: PatternRewriter) -> set[Operation]:
    """The operations inserted since ``rewriter`` matched its present operation."""
    matched = rewriter._current_operation  # pyright: ignore[reportPrivateUsage]
    known: tuple[Operation | None, set[Operation]] | None = getattr(rewriter, _CREATED, None)
    if known is None or known[0] is not matched:
        known = (matched, set())
        setattr(rewriter, _CREATED, known)
    return known[1]


def _replacing_op(
    op: Operation,
    new_ops: Operation | Sequence[Operation],
    new_results: Sequence[SSAValue | None] | None = None,
    safe_erase: bool = True,
) -> None:
    _fuse(_as_ops(new_ops), op)
    _replace_op(op, new_ops, new_results, safe_erase)


def _as_ops(op: Operation | Sequence[Operation]) -> Sequence[Operation]:
    return (op,) if isinstance(op, Operation) else op


def _inherit(ops: Sequence[Operation], source: Operation) -> None:
    for op in ops:
        for nested in op.walk():
            if isinstance(nested.location, UnknownLoc):
                nested.location = source.location


def _fuse(ops: Sequence[Operation], replaced: Operation) -> None:
    _inherit(ops, replaced)
    for op in ops:
        if op.location != replaced.location:
            op.location = fuse_locations(op.location, replaced.location)
