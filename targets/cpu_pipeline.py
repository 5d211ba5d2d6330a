"""The explicit list of passes for CPUs, level by level; every CPU family shares it, their rows differ.

nn --decompose, widen-float8, channels-last, canonicalize, nn-to-nest, fuse, fuse-attention, fuse-row-chains,
   fuse-factors, collapse-dimensions--> nest
   --split-contraction, offset-signs, pack-weights, choose-schedule, nest-to-tile--> tile --tile-to-mma--> mma
   --plan-buffers, mma-to-hardware, arith-emulate-unsupported-floats, round-to-bf16, expand-math,
   control-flow-sink--> hardware
   --convert-scf-to-cf, convert-to-llvm--> llvm
"""

from __future__ import annotations

LEVELS = ("nn", "nest", "tile", "mma", "hardware", "llvm")
"""The levels of a CPU program, from the highest to the lowest."""

STEPS: dict[str, tuple[str, ...]] = {
    "nest": (
        "decompose",
        "widen-float8{target=TARGET}",
        "channels-last{target=TARGET}",
        "canonicalize",
        "nn-to-nest",
        "fuse",
        "fuse-attention{target=TARGET}",
        "fuse-row-chains{target=TARGET}",
        "fuse-factors{target=TARGET}",
        "collapse-dimensions",
    ),
    "tile": (
        "split-contraction{target=TARGET}",
        "offset-signs{target=TARGET}",
        "pack-weights{target=TARGET arguments=BOUND}",
        "choose-schedule{target=TARGET}",
        "nest-to-tile",
    ),
    "mma": ("tile-to-mma{target=TARGET}",),
    "hardware": (
        "plan-buffers",
        "mma-to-hardware",
        "arith-emulate-unsupported-floats",
        "round-to-bf16{target=TARGET}",
        "expand-math{target=TARGET}",
        "control-flow-sink",
    ),
    "llvm": ("convert-scf-to-cf", "convert-to-llvm"),
}
"""The passes that lead to each level from the one above.

``TARGET`` stands for the machine's name, ``BOUND`` for whether the caller brings weights packed."""


def steps(machine: str, level: str, bound: bool = False) -> list[str]:
    """The passes that lead to ``level`` from the one above, for the machine called ``machine``.

    ``bound``: arguments marked as weights are packed ahead of the call.
    """
    return [step.replace("TARGET", machine).replace("BOUND", str(bound).lower()) for step in STEPS[level]]


def pipeline(machine: str) -> str:
    """All passes from ``nn`` to ``llvm`` as a pipeline; ``host`` is the machine at hand."""
    from crosstile.targets.host import resolve_machine

    name = "host" if machine == "host" else resolve_machine(machine).name
    return ",".join(step for level in LEVELS[1:] for step in steps(name, level))
