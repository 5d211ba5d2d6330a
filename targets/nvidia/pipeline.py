"""The explicit list of passes for NVIDIA's GPUs, level by level.

nn --decompose, widen-float8, channels-last, canonicalize, nn-to-nest, fuse, fuse-attention--> nest
   --split-contraction, choose-schedule, nest-to-tile--> tile
   --tile-to-mma, rotate-loads, overlap-products, peel-loops--> mma
   --mma-to-nvvm, arith-emulate-unsupported-floats, expand-math--> hardware --(emit)--> PTX

Host functions stay as they are below ``tile``: what runs them is ``run.py``, launch by launch.
"""

from __future__ import annotations

LEVELS = ("nn", "nest", "tile", "mma", "hardware")
"""The levels of a program for a GPU, from the highest to the lowest."""

STEPS: dict[str, tuple[str, ...]] = {
    "nest": (
        "decompose",
        "widen-float8{target=TARGET}",
        "channels-last{target=TARGET}",
        "canonicalize",
        "nn-to-nest",
        "fuse",
        "fuse-attention{target=TARGET}",
    ),
    "tile": ("split-contraction{target=TARGET}", "choose-schedule{target=TARGET}", "nest-to-tile"),
    "mma": ("tile-to-mma{target=TARGET}", "rotate-loads", "overlap-products", "peel-loops"),
    "hardware": ("mma-to-nvvm", "arith-emulate-unsupported-floats", "expand-math{target=TARGET}"),
}
"""The passes that lead to each level from the one above. ``TARGET`` stands for the machine's name."""


def steps(machine: str, level: str, bound: bool = False) -> list[str]:
    """The passes that lead to ``level`` from the one above, for the machine called ``machine``.

    ``bound`` makes no difference: weights are staged as they lie.
    """
    del bound
    return [step.replace("TARGET", machine) for step in STEPS[level]]


def pipeline(machine: str) -> str:
    """All passes from ``nn`` to ``hardware`` as a pipeline."""
    from crosstile.targets.host import resolve_machine

    name = resolve_machine(machine).name
    return ",".join(step for level in LEVELS[1:] for step in steps(name, level))
