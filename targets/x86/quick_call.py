"""The quick way into a host function: Python written for its arity, for calls whose work is not worth a microsecond.

A call on small arrays costs what happens before the machine code. The general way goes over lists of arguments; this
one is text, made once per function and compiled by Python, in which each argument has its own lines::

    a0, a1 = arguments
    plan = function._plans[a0.shape, a1.shape]
    if type(a0) is not ndarray or a0.dtype is not d0 or ...: return None
    words[0] = at(id(a0) + 16).value
    ...

It takes calls that were made before with these shapes, on contiguous arrays, for one worker and one result. For all
others it answers None, having done nothing, and the general way says what is wrong, or does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crosstile.targets.x86.launch import PLAIN, PLAIN_OUTPUT, HostFunction, address_of

QuickCall = Callable[[tuple[object, ...], Any], Any]
"""From the arguments and ``out`` (None: a new array) to the result, or None."""

SMALL_ELEMENTS = 1 << 16
"""Up to so many elements in arguments and results together; the results of more begin at a cache line."""


def quick_call(function: HostFunction) -> QuickCall:
    """The quick way into ``function``; one that always answers None for a function of several results."""
    inputs, slots = len(function.input_rules), function.slots
    if len(function.output_rules) != 1 or inputs == 0:
        return lambda arguments, out: None
    names = [f"a{position}" for position in range(inputs)]
    shapes = ", ".join(f"{name}.shape" for name in names)
    unfit = " or ".join(
        f"type({name}) is not ndarray or {name}.dtype is not d{position} or {name}.flags.num & {PLAIN} != {PLAIN}"
        for position, name in enumerate(names)
    )
    overlaps = " or ".join(f"may_share_memory(out, {name})" for name in names)
    addresses = "\n    ".join(
        f"words[{slot}] = address_of({name})" for slot, name in zip(slots, [*names, "out"], strict=True)
    )
    text = f"""
def quick(arguments, out):
    try:
        {", ".join(names)}, = arguments
        plan = function._plans[{shapes}{"," if inputs == 1 else ""}]
    except (AttributeError, KeyError, TypeError, ValueError):  # no arrays, or none of these shapes so far
        return None
    if not plan.is_ready or plan.elements > {SMALL_ELEMENTS} or plan.workers > 1 or {unfit}:
        return None
    if out is None:
        out = empty(plan.result_shapes[0], r0)
    elif (type(out) is not ndarray or out.dtype is not r0 or out.shape != plan.result_shapes[0]
          or out.flags.num & {PLAIN_OUTPUT} != {PLAIN_OUTPUT} or {overlaps}):
        return None
    words = plan.words.copy()
    {addresses}
    function.call(plan, words)
    return out
"""
    known: dict[str, Any] = {
        "function": function,
        "ndarray": np.ndarray,
        "empty": np.empty,
        "may_share_memory": np.may_share_memory,
        "address_of": address_of,
        "r0": function.output_rules[0].dtype,
        **{f"d{position}": rule.dtype for position, rule in enumerate(function.input_rules)},
    }
    exec(text, known)
    return known["quick"]
