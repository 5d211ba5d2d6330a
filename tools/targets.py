"""The machines a whole pipeline exists for: adding one is one row.

``pipeline`` names a function ``pipeline(target: str) -> str`` in that target's ``pipeline.py``; it gets the target's
name as the user wrote it (``host`` stands for the machine at hand) and returns the list of its passes as text::

    nn-to-nest,fuse,choose-schedule{target=host},...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.registry import did_you_mean, load_object


@dataclass(frozen=True)
class TargetRow:
    """A target: the name users write and where its list of passes is."""

    name: str
    pipeline: str
    summary: str


TARGETS: tuple[TargetRow, ...] = ()


def target_pipeline(name: str) -> str:
    """The whole pass pipeline of target ``name``, from ``nn`` to its last level."""
    for row in TARGETS:
        if row.name == name:
            return cast(Callable[[str], str], load_object(row.pipeline))(name)
    names = [row.name for row in TARGETS]
    known = f"; known targets: {', '.join(names)}" if names else ""
    raise CrosstileError(f"unknown target '{name}'{did_you_mean(name, names) or known}")
