"""Running a program at any level in NumPy: what its module means, before or after any pass.

In: a module whose function ``entry`` is a tensor program (``nn``, ``nest``) or a host function (``tile`` and below),
and arrays. Out: the results, and which of their elements were computed::

    evaluation = evaluate(program.at("tile"), "main", [x, w], sample=8)
    evaluation.results[0][evaluation.computed[0]]

Results of a host function start as poison, so an element that nothing writes is known. ``sample`` runs about so many
instances of each kernel of the tile and mma levels: the first and last, ragged edges included, and others in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from crosstile.dialects.element_types import Array, is_poison, poison_of, poisoned
from crosstile.dialects.host import host_signature, is_host
from crosstile.dialects.interpreter import Interpreter, Observer
from crosstile.dialects.tile.coverage import Coverage
from crosstile.targets.signature import ARENA_SUFFIX
from crosstile.tools.program import Program, find_function


@dataclass(frozen=True)
class Evaluation:
    """``results``, and for each the mask of the elements that were ``computed`` (all of them unless sampled)."""

    results: list[Array]
    computed: list[Array]
    instances: int
    """The instances that the kernels of the tile and mma levels have, 0 at other levels."""
    instances_run: int

    @property
    def share(self) -> float:
        """The share of the elements that was computed."""
        size = sum(mask.size for mask in self.computed)
        return sum(int(np.count_nonzero(mask)) for mask in self.computed) / size if size else 1.0

    @property
    def sampled(self) -> bool:
        """Whether instances were left out."""
        return self.instances_run < self.instances


def evaluate(
    module: ModuleOp,
    entry: str,
    inputs: Sequence[Array],
    workers: int = 1,
    sample: int | None = None,
    observe: Observer | None = None,
) -> Evaluation:
    """Run the function ``entry`` of ``module`` on ``inputs``; they are not written to.

    ``workers``, ``sample`` and ``observe`` are those of ``Interpreter``. Raises CrosstileError for what goes wrong.
    """
    from crosstile.dialects.mma.meaning import MEANINGS as MMA
    from crosstile.dialects.nest.meaning import MEANINGS as NEST
    from crosstile.dialects.nn.meaning import MEANINGS as NN
    from crosstile.dialects.tile.meaning import MEANINGS as TILE
    from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
    from crosstile.dialects.vector_meaning import MEANINGS as VECTOR

    tables = (UPSTREAM, VECTOR, NN, NEST, TILE, MMA)
    interpreter = Interpreter(module, *tables, workers=workers, sample=sample, observe=observe)
    function = find_function(module, entry)
    if not is_host(function):
        results = [np.asarray(result) for result in interpreter.call(entry, inputs)]
        return Evaluation(results, [np.ones(result.shape, np.bool_) for result in results], 0, 0)
    results = _run_host(interpreter, function, inputs)
    coverage = interpreter.state(Coverage)
    if sample is None:
        computed = [np.ones(result.shape, np.bool_) for result in results]
    else:
        computed = [coverage.mask(result) if coverage.sampled else ~is_poison(result) for result in results]
    return Evaluation(results, computed, coverage.instances, coverage.instances_run)


def evaluate_level(
    program: Program,
    level: str,
    inputs: Sequence[Array],
    workers: int = 1,
    sample: int | None = None,
    observe: Observer | None = None,
) -> Evaluation:
    """Run ``program`` as it is at ``level``; a sample that computes nothing of a result gives way to all instances.

    That happens where a kernel needs all of what another computes. What a sample leaves out is poison.
    """
    module, entry = program.at(level), program.entry
    if sample is None or level not in ("tile", "mma"):
        return evaluate(module, entry, inputs, workers, None, observe)
    masks: list[Array] | None = None
    if level == "mma" and program.start != "mma":
        # Only the tile level keeps track of who reads what; the same instances are run below it.
        masks = evaluate(program.at("tile"), entry, inputs, workers, sample).computed
        if not _is_useful(masks):
            return evaluate(module, entry, inputs, workers, None, observe)
    found = evaluate(module, entry, inputs, workers, sample, observe)
    if masks is None:
        return found if _is_useful(found.computed) else evaluate(module, entry, inputs, workers, None, observe)
    for result, mask in zip(found.results, masks, strict=True):
        result[~mask] = poison_of(result.dtype)
    return replace(found, computed=masks)


def _is_useful(masks: Sequence[Array]) -> bool:
    return all(mask.any() or not mask.size for mask in masks)


def _run_host(interpreter: Interpreter, function: FuncOp, inputs: Sequence[Array]) -> list[Array]:
    """The results of a host function, whatever passes have added to its arguments."""
    signature = host_signature(function)
    shapes = signature.shapes_of_results([np.shape(value) for value in inputs])
    results = [poisoned(shape, np.dtype(type_.dtype)) for shape, type_ in zip(shapes, signature.results, strict=True)]
    memrefs = [*inputs, *results]
    added = len(function.function_type.inputs) - len(memrefs)
    arguments: list[Any] = list(memrefs)
    if added:
        # After mma-to-hardware the arena's size depends on the number of workers, and stage, part and parts follow.
        by_worker = added > 1
        (size,) = interpreter.call(function.sym_name.data + ARENA_SUFFIX, [*memrefs, *([1] if by_worker else [])])
        arguments += [poisoned((int(size),), np.dtype(np.int8)), *([-1, 0, 1] if by_worker else [])]
    interpreter.call(function.sym_name.data, arguments)
    return results
