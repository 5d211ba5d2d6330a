"""What ``crosstile-opt`` tells on standard error while passes run: modules before and after them, and their times.

The flags are mlir-opt's::

    --mlir-print-ir-before-all, --mlir-print-ir-after-all      every pass
    --mlir-print-ir-before=P,Q, --mlir-print-ir-after=P,Q      these passes
    --mlir-print-ir-after-change                               of those after a pass, only what the pass changed
    --mlir-print-ir-after-failure                              only what a failed pass left
    --mlir-timing                                              how long parsing, each pass, verifying and printing took
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from crosstile.ir.registry import did_you_mean
from crosstile.tools.command_line import ArgumentParser, UsageError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.passes import ModulePass

    from crosstile.ir.pipeline import PassSpec

VALUES = ("--mlir-print-ir-before", "--mlir-print-ir-after")
"""The flags of ``add_flags`` that take a value."""
_RULE = "===" + "-" * 73 + "==="


def add_flags(parser: ArgumentParser) -> None:
    """Add the flags of this module."""
    for when in ("before", "after"):
        parser.add_argument(
            f"--mlir-print-ir-{when}",
            metavar="PASS[,PASS]",
            type=lambda text: str(text).split(","),
            default=[],
            help=f"print the module to standard error {when} these passes",
        )
        parser.add_argument(
            f"--mlir-print-ir-{when}-all",
            action="store_true",
            help=f"print the module to standard error {when} every pass",
        )
    for flag, text in (
        ("--mlir-print-ir-after-change", "after a pass, print the module only if the pass changed it"),
        ("--mlir-print-ir-after-failure", "print the module that a failed pass leaves"),
        ("--mlir-timing", "print how long parsing, each pass, verifying and printing took"),
    ):
        parser.add_argument(flag, action="store_true", help=text)


class PassReports:
    """The reports of one run over one module or several, and the clock of its steps; a ``PassObserver``.

    ``passes`` are the names of those that will run; ``show`` prints a module. Raises UsageError for a flag that names
    a pass that does not run.
    """

    def __init__(self, arguments: argparse.Namespace, passes: Sequence[PassSpec], show: Callable[[ModuleOp], str]):
        self._show = show
        self._titles = [str(spec) for spec in passes]
        names = [spec.name for spec in passes]
        self._before = _known(arguments.mlir_print_ir_before, names, "before")
        self._after = _known(arguments.mlir_print_ir_after, names, "after")
        self._only_changes: bool = arguments.mlir_print_ir_after_change
        self._all_before: bool = arguments.mlir_print_ir_before_all
        self._all_after: bool = arguments.mlir_print_ir_after_all or (self._only_changes and not self._after)
        self._failures: bool = arguments.mlir_print_ir_after_all or arguments.mlir_print_ir_after_failure
        self._timing: bool = arguments.mlir_timing
        self._done = 0
        self._text = ""
        self._seconds: dict[str, float] = {}
        self._start = perf_counter()

    @property
    def done(self) -> list[str]:
        """The passes that have left the present module valid, with their options."""
        return self._titles[: self._done]

    @property
    def current(self) -> str:
        """The pass that runs, with its options."""
        return self._titles[self._done]

    def begin(self) -> None:
        """The passes start over, on another module."""
        self._done, self._text = 0, ""

    def before(self, module_pass: ModulePass, module: ModuleOp) -> None:
        """The pass is about to run."""
        if self._all_before or module_pass.name in self._before:
            _dump(f"Before {self.current}", self._show(module))
        if self._only_changes and not self._text:
            self._text = self._show(module)

    def after(self, module_pass: ModulePass, module: ModuleOp) -> None:
        """The pass has run, and left a valid module."""
        asked = self._all_after or module_pass.name in self._after
        if asked or self._only_changes:
            text = self._show(module)
            if asked and not (self._only_changes and text == self._text):
                _dump(f"After {self.current}", text)
            self._text = text
        self._done += 1

    def failed(self, module: ModuleOp) -> None:
        """The pass that runs has failed, and left this."""
        if self._failures:
            from crosstile.ir.printing import print_module

            # The generic form, which can print what does not verify.
            _dump(f"After {self.current} Failed", print_module(module, generic=True))

    @contextmanager
    def timed(self, step: str) -> Generator[None]:
        """What happens inside counts as ``step``."""
        start = perf_counter()
        try:
            yield
        finally:
            self._seconds[step] = self._seconds.get(step, 0.0) + perf_counter() - start

    def finish(self) -> None:
        """Print the times, if they are asked for."""
        if not self._timing:
            return
        total = perf_counter() - self._start
        steps = [*self._seconds.items(), ("Rest", total - sum(self._seconds.values())), ("Total", total)]
        lines = [_RULE, f"{'... Execution time report ...':^79}".rstrip(), _RULE]
        lines += [f"  Total Execution Time: {total:.4f} seconds", "", "  ----Wall Time----  ----Name----"]
        lines += [f"  {seconds:8.4f} ({seconds / total:6.1%})  {step}" for step, seconds in steps]
        sys.stderr.write("\n".join(lines) + "\n")


def _known(names: Sequence[str], passes: Sequence[str], when: str) -> frozenset[str]:
    for name in names:
        if name not in passes:
            message = f"--mlir-print-ir-{when}: pass '{name}' does not run{did_you_mean(name, list(passes))}"
            raise UsageError(message).with_note(f"the passes that run: {', '.join(dict.fromkeys(passes)) or 'none'}")
    return frozenset(names)


def _dump(title: str, text: str) -> None:
    sys.stderr.write(f"// -----// IR Dump {title} //----- //\n{text}\n")
