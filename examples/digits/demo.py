"""Read real handwritten digits with a compiled network: ``python -m examples.digits.demo`` from the project's root.

Compiles ``digits.mlir`` for this machine, runs it on all 1797 images, and prints how many it reads correctly (those it
was not trained on apart), whether every probability lies within the error bound derived from the program, the time per
image, and the kernels that the program became.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import crosstile
from crosstile.dialects.nn.error_bound import bound_program, compare
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module

FOLDER = Path(__file__).resolve().parent
PROGRAM = FOLDER / "digits.mlir"
WEIGHTS = ("w1", "b1", "gamma", "beta", "w2", "b2")
REPEATS = 20

Array = NDArray[Any]


def load() -> tuple[Array, Array, list[Array], Array]:
    """Images in float32, the digits they show, the weights in the order of the program, the held-out indices."""
    with np.load(FOLDER / "digits.npz") as data:
        images, labels = data["images"].astype(np.float32), data["labels"]
    with np.load(FOLDER / "weights.npz") as data:
        return images, labels, [data[name] for name in WEIGHTS], data["held_out"]


def picture(image: Array) -> list[str]:
    """The image in characters, a line per row of pixels."""
    return ["".join(" .:-=+*#%"[int(pixel) // 2] * 2 for pixel in row) for row in image.reshape(8, 8)]


def fastest(function: Any, *arguments: Any, **options: Any) -> float:
    """The seconds of the fastest of some calls."""
    times: list[float] = []
    for _ in range(REPEATS):
        begin = perf_counter()
        function(*arguments, **options)
        times.append(perf_counter() - begin)
    return min(times)


def main() -> int:
    """Run and report; exit code 1 if a result is outside its bound."""
    images, labels, weights, held_out = load()
    begin = perf_counter()
    network = crosstile.compile(PROGRAM)
    compile_seconds = perf_counter() - begin
    probabilities = network(images, *weights)
    right = probabilities.argmax(axis=1) == labels

    shown = held_out[:4]
    for lines in zip(*(picture(images[at]) for at in shown), strict=True):
        print("   ".join(lines))
    print("   ".join(f"read as {probabilities[at].argmax()} ({probabilities[at].max():.0%})".ljust(16) for at in shown))
    print()
    held = f"{right[held_out].mean():.2%} of {len(held_out)} held-out images"
    print(f"accuracy    {held}, {right.mean():.2%} of all {len(images)}")

    module = parse_module(PROGRAM.read_text(encoding="utf-8"), PROGRAM.name, make_context())
    ((expected, bound),) = bound_program(module, "main", [images, *weights])
    comparison = compare(probabilities, expected, bound)
    verdict = "right" if comparison.right else f"WRONG at {comparison.worst_element}"
    print(f"check       {verdict}: largest error {comparison.error:.1e}, at most {comparison.share:.1%} of its bound")

    out = np.empty_like(probabilities)
    batch = fastest(network, images, *weights, out=out) / len(images)
    single = fastest(network, images[:1], *weights, out=out[:1])
    print(
        f"time        {batch * 1e9:,.0f} ns per image in a batch of {len(images)}, {single * 1e6:.1f} us for one alone"
    )
    phases = sorted(network.compile_seconds.items(), key=lambda item: -item[1])
    slowest = ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases[:4])
    print(f"compiled    in {compile_seconds:.2f} s (most of it: {slowest})")
    print(f"kernels     {', '.join(network.kernels)}")
    return 0 if comparison.right else 1


if __name__ == "__main__":
    sys.exit(main())
