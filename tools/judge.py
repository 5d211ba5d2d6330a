"""Judging a program: every level, and the machine code, against a reference computed another way.

In: a program and its arguments. Out: one :class:`Verdict` per level. The reference is the ``nn`` program in float64
with the error bound that follows from the program (``dialects/nn/error_bound.py``); a level is right if every element
lies inside. From ``mma`` down more holds: the machine code computes the same bits. ::

    report = judge(program, inputs)
    report.right, report.culprit          # True, None   or   False, "nest-to-tile"

A program that starts below ``nn`` has no reference: its levels are compared with the first one, and only a difference
of more than ``GROSS`` of the largest element counts, but machine code must still have the bits of ``mma``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from xdsl.dialects import math
from xdsl.dialects.builtin import ModuleOp

from crosstile.dialects.element_types import Array
from crosstile.dialects.interpreter import Observer
from crosstile.dialects.nn.error_bound import Comparison, bound_program, compare
from crosstile.ir.diagnostics import CrosstileError
from crosstile.passes.arith_emulate_unsupported_floats import ArithEmulateUnsupportedFloatsPass
from crosstile.passes.expand_math import ExpandMathPass
from crosstile.targets.cpu_pipeline import LEVELS
from crosstile.tools.evaluate import Evaluation, evaluate, evaluate_level
from crosstile.tools.program import Program

CODE, DEVICE = "machine code", "PTX"
"""What comes below the levels: of a program for a core, and for a GPU."""
INTERPRETED = ("nn", "nest", "tile", "mma")
"""The levels that are run in NumPy, from the highest."""
GROSS = 2.0**-10
MOST_BISECTED = 3e6
"""Operations; below ``mma`` the passes of larger programs are not bisected, as NumPy runs one instruction at a time."""
ROUNDED_ONCE = (math.SqrtOp, math.FmaOp, math.AbsFOp, math.CopySignOp, math.FloorOp, math.CeilOp)
"""Functions that are the same in NumPy and in machine code."""

Reference = list[tuple[Array, Array]]
"""Expected value and bound, in float64, of every result."""


@dataclass(frozen=True)
class Element:
    """An element that is wrong, or the one nearest to its bound."""

    result: int
    index: tuple[int, ...]
    got: float
    expected: float
    bound: float


@dataclass(frozen=True)
class Verdict:
    """What was found about one level."""

    level: str
    right: bool
    comparisons: list[Comparison]
    worst: Element | None
    seconds: float
    remarks: list[str] = field(default_factory=list[str])
    error: CrosstileError | None = None
    """Why the level could not be reached or run."""

    @property
    def ulps(self) -> float:
        """The largest error in units in the last place."""
        return max((one.ulps for one in self.comparisons), default=0.0)

    @property
    def share(self) -> float:
        """The largest error / bound."""
        return max((one.share for one in self.comparisons), default=0.0)

    @property
    def undetermined(self) -> int:
        """Elements whose bound is infinite."""
        return sum(one.undetermined for one in self.comparisons)


@dataclass(frozen=True)
class Report:
    """The verdicts from the top down, and the first pass after which the answer is wrong, if one is."""

    verdicts: list[Verdict]
    culprit: str | None

    @property
    def right(self) -> bool:
        """Whether every level is right."""
        return all(verdict.right for verdict in self.verdicts)


@dataclass
class Judge:
    """The judgement of one program on one set of arguments.

    ``samples`` says how many instances of a kernel to run at a level (all if it does not); ``observe`` has an observer
    of the interpreter per level, for tests; ``announce`` is called with what is done next.
    """

    program: Program
    inputs: Sequence[Array]
    threads: int = 2
    samples: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    operations: int = 0
    observe: Mapping[str, Observer] = field(default_factory=dict[str, Observer])
    announce: Callable[[str], None] = lambda _: None
    _reference: Reference = field(init=False, default_factory=Reference)
    _found: dict[str, Evaluation] = field(init=False, default_factory=dict[str, Evaluation])

    @property
    def exact(self) -> bool:
        """Whether there is a reference with a bound."""
        return self.program.start == "nn"

    def run(self) -> Report:
        """Judge every level, stopping at one that cannot be reached, and find the pass if one is wrong."""
        verdicts = list(self.verdicts())
        wrong = next((verdict for verdict in verdicts if not verdict.right and verdict.error is None), None)
        return Report(verdicts, None if wrong is None else self._bisect(wrong.level))

    def verdicts(self) -> Iterator[Verdict]:
        """The verdicts from the top down, each when it is asked for."""
        start = self.program.start
        if start not in INTERPRETED:
            levels = ", ".join(INTERPRETED)
            raise CrosstileError(f"a program that starts at level {start} cannot be checked: {levels} can")
        self.announce("computing the reference")
        if self.exact:
            self._reference = bound_program(self.program.at("nn"), self.program.entry, self.inputs)
        else:
            first = evaluate_level(self.program, start, self.inputs).results
            self._reference = [(result.astype(np.float64), _gross(result)) for result in first]
        code = CODE if self.program.machine.warp_lanes is None else DEVICE
        for level in [*INTERPRETED[INTERPRETED.index(start) :], code]:
            self.announce(f"running {level}")
            begin = perf_counter()
            try:
                yield self._code(begin) if level == code else self._level(level, begin)
            except CrosstileError as error:
                yield Verdict(level, False, [], None, perf_counter() - begin, error=error)
                return

    # Levels

    def _level(self, level: str, begin: float) -> Verdict:
        sample, observe = self.samples.get(level), self.observe.get(level)
        found = evaluate_level(self.program, level, self.inputs, self.threads, sample, observe)
        self._found[level] = found
        return self._verdict(level, found.results, found.computed, begin, found)

    def _verdict(
        self,
        level: str,
        results: Sequence[Array],
        masks: Sequence[Array],
        begin: float,
        found: Evaluation | None = None,
        remarks: Sequence[str] = (),
        right: bool = True,
    ) -> Verdict:
        comparisons, worst = self._compare(results, masks)
        remarks = list(remarks)
        if found is not None and found.sampled:
            sample = f"{found.instances_run} of {found.instances} instances, {100 * found.share:.3g} % of the elements"
            remarks.append(f"a sample: {sample}")
        inside = all(one.right for one in comparisons)
        return Verdict(level, inside and right, comparisons, worst, perf_counter() - begin, remarks)

    def _compare(self, results: Sequence[Array], masks: Sequence[Array]) -> tuple[list[Comparison], Element | None]:
        comparisons: list[Comparison] = []
        worst: tuple[float, Element] | None = None
        for position, (result, mask) in enumerate(zip(results, masks, strict=True)):
            expected, bound = self._reference[position]
            if result.shape != expected.shape:
                raise CrosstileError(f"result {position} has shape {result.shape}, the reference {expected.shape}")
            one = compare(result[mask], expected[mask], bound[mask])
            comparisons.append(one)
            if one.worst_element is not None and (worst is None or one.share > worst[0]):
                # A rank-0 result is one element behind a mask of rank 1.
                at = tuple(int(index) for index in np.argwhere(mask)[one.worst_element[0]])
                values = (float(array[at]) for array in (result, expected, bound))
                worst = one.share, Element(position, at, *values)
        return comparisons, None if worst is None else worst[1]

    # Machine code

    def _code(self, begin: float) -> Verdict:
        if self.program.machine.warp_lanes is not None:
            return self._on_device(begin)
        function = self.program.compile().function
        inputs = function.check_inputs(self.inputs)
        results, shared = function.new_outputs(inputs), function.new_outputs(inputs)
        function(inputs, results, 1)
        remarks: list[str] = []
        right = True
        if self.threads > 1:
            function(inputs, shared, self.threads)
            differ = sum(map(_differing, results, shared))
            right = not differ
            remarks.append(_bits(differ, f"with {self.threads} threads"))
        differ, exact = self._differ_from_mma(results)
        right = right and (differ == 0 or not exact)
        remarks.append(_bits(differ, "as mma") if exact else "bits not compared with mma: it calls the C library")
        everything = [np.ones(result.shape, np.bool_) for result in results]
        return self._verdict(CODE, results, everything, begin, remarks=remarks, right=right)

    def _on_device(self, begin: float) -> Verdict:
        """The kernels run by a GPU, or by the simulator instruction by instruction."""
        from crosstile.tools.device import open_device, run_on_device

        device, where = open_device(self.program.machine, self.operations)
        results = run_on_device(self.program, self.inputs, device)
        everything = [np.ones(result.shape, np.bool_) for result in results]
        return self._verdict(DEVICE, results, everything, begin, remarks=[where])

    def _differ_from_mma(self, results: Sequence[Array]) -> tuple[int, bool]:
        """How many elements have other bits than at the mma level, and whether that is a mistake.

        Elementary functions are compared as what they expand to; those without a formula are calls of the C library.
        """
        module, found = self.program.at("mma"), self._found["mma"]
        functions = _functions(module)
        if functions:
            module = module.clone()
            ArithEmulateUnsupportedFloatsPass().apply(self.program.context, module)
            ExpandMathPass().apply(self.program.context, module)
            functions = _functions(module)
            found = self._evaluate("mma", module)
        differ = sum(
            _differing(result[mask], other[mask])
            for result, other, mask in zip(results, found.results, self._found["mma"].computed, strict=True)
        )
        return differ, not functions

    # Bisection

    def _bisect(self, level: str) -> str | None:
        """The first pass after which the answer is wrong, on the way to the first level that is."""
        self.announce("looking for the pass")
        if level == DEVICE:
            return "one of those below mma, or the printing of PTX"
        if level == CODE:
            return self._bisect_code()
        if level == self.program.start:
            return None
        wrong = (name for name, module in self.program.trace(level) if self._is_wrong(level, module))
        return next(wrong, level)

    def _bisect_code(self) -> str:
        if self.operations > MOST_BISECTED:
            return "one of those below mma (smaller sizes tell which)"
        wrong = (name for name, module in self.program.trace("hardware") if self._is_wrong("hardware", module))
        return next(wrong, "convert-to-llvm, or LLVM's code generator")

    def _is_wrong(self, level: str, module: ModuleOp) -> bool:
        results = self._evaluate(level, module).results
        known = self._found.get(level)
        masks = [np.ones(result.shape, np.bool_) for result in results] if known is None else known.computed
        comparisons, _ = self._compare(results, masks)
        return not all(one.right for one in comparisons)

    def _evaluate(self, level: str, module: ModuleOp) -> Evaluation:
        """Run a variant of the program at ``level``, on the instances that were run before."""
        known = self._found.get(level)
        sample = self.samples.get(level) if known is not None and known.sampled else None
        return evaluate(module, self.program.entry, self.inputs, self.threads, sample, self.observe.get(level))


def _gross(result: Array) -> Array:
    finite = np.abs(result[np.isfinite(result)].astype(np.float64))
    return np.full(result.shape, GROSS * (finite.max() if finite.size else 1.0))


def _functions(module: ModuleOp) -> bool:
    """Whether ``module`` has elementary functions that are rounded differently by different libraries."""
    return any(op.name.startswith("math.") and not isinstance(op, ROUNDED_ONCE) for op in module.walk())


def _differing(lhs: Array, rhs: Array) -> int:
    """How many elements have other bits; any NaN equals any NaN, as their payloads are nobody's business."""
    same = (lhs == rhs) & (np.signbit(lhs) == np.signbit(rhs)) if lhs.dtype.kind not in "biu" else lhs == rhs
    return int(np.count_nonzero(~(same | ((lhs != lhs) & (rhs != rhs)))))


def _bits(differ: int, what: str) -> str:
    return f"the same bits {what}" if not differ else f"{differ} elements have OTHER BITS than {what}"


assert set(INTERPRETED) < set(LEVELS)
