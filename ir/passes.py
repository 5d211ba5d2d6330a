"""Running passes: verified, located, and with errors that say which pass, which pattern and which operation.

In: a module and pass objects. Out: the module, rewritten in place. After each pass the module is verified, so the
first pass that breaks it is the one that is named::

    f.mlir:3:8: error: 'nest.generic' op expects ...
    note: after pass 'nn-to-nest', which left the module invalid
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Protocol

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import RewritePattern
from xdsl.utils.exceptions import DiagnosticException

from crosstile.ir.diagnostics import CrosstileError, Note
from crosstile.ir.locations import inherit_locations
from crosstile.ir.verification import verify_module


class PassObserver(Protocol):
    """What is told of passes while they run."""

    def before(self, module_pass: ModulePass, module: ModuleOp) -> None:
        """The pass is about to run on ``module``."""
        ...

    def after(self, module_pass: ModulePass, module: ModuleOp) -> None:
        """The pass has left ``module``, which is valid if passes are verified."""
        ...

    def timed(self, step: str) -> AbstractContextManager[None]:
        """What happens inside is ``step``: a pass by its name, or the verification of all of them."""
        ...


def run_passes(
    context: Context,
    module: ModuleOp,
    passes: Sequence[ModulePass],
    observer: PassObserver | None = None,
    verify_each: bool = True,
) -> None:
    """Run ``passes`` on ``module`` in order, telling ``observer`` of each.

    The module is not verified at entry. With ``verify_each`` it is after every pass, else after the last one only.
    Raises :class:`CrosstileError` naming the pass, the pattern or rule, and the operation.
    """
    for index, module_pass in enumerate(passes):
        if observer is not None:
            observer.before(module_pass, module)
        with observer.timed(module_pass.name) if observer is not None else nullcontext():
            run_pass(context, module, module_pass)
        if verify_each or index == len(passes) - 1:
            with observer.timed("(verify)") if observer is not None else nullcontext():
                _verify_after(module_pass, module)
        if observer is not None:
            observer.after(module_pass, module)


def _verify_after(module_pass: ModulePass, module: ModuleOp) -> None:
    try:
        verify_module(module)
    except CrosstileError as error:
        raise error.with_note(f"pass '{module_pass.name}' left the module invalid") from error


def run_pass(context: Context, module: ModuleOp, module_pass: ModulePass) -> None:
    """Run one pass without verifying; errors name the pass and locations are inherited."""
    try:
        with inherit_locations(module):
            module_pass.apply(context, module)
    except CrosstileError as error:
        if module_pass.name in error.message:
            raise
        raise error.with_note(f"in pass '{module_pass.name}'") from error
    except RecursionError as error:
        raise CrosstileError(f"{module_pass.name}: the program is nested too deeply", module.location) from error
    except Exception as error:
        raise _pass_error(module, module_pass, error) from error


def _pass_error(module: ModuleOp, module_pass: ModulePass, error: Exception) -> CrosstileError:
    pattern, op = _failing_pattern(error.__traceback__)
    where = module_pass.name if pattern is None else f"{module_pass.name}: {type(pattern).__name__}"
    if op is not None and op.parent is not None:
        where += f": '{op.name}'"
    location = module.location if op is None else op.location
    if isinstance(error, DiagnosticException):
        return CrosstileError(f"{where}: {error}", location)
    message = f"{where}: internal error: {type(error).__name__}: {error}"
    return CrosstileError(message, location, (Note("this is a defect of the pass; --debug shows the traceback"),))


def _failing_pattern(traceback: TracebackType | None) -> tuple[RewritePattern | None, Operation | None]:
    """The innermost pattern on the traceback and the operation it was applied to."""
    pattern: RewritePattern | None = None
    op: Operation | None = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_name == "match_and_rewrite":
            owner = frame.f_locals.get("self")
            if isinstance(owner, RewritePattern):
                pattern = owner
                matched = frame.f_locals.get("op")
                op = matched if isinstance(matched, Operation) else op
        traceback = traceback.tb_next
    return pattern, op
