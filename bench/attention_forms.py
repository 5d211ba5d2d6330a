"""Attention as one operator and written out: the same kernel, so the same time, on one thread.

    python bench/attention_forms.py [--rounds 15] [--json]

The forms take their turns in every round; the ratio is the median of the ratios within the rounds. A soft cap has no
operator; its row says what it costs.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from time import process_time
from typing import Any

import numpy as np

import crosstile

HEADS, QUERIES, SIZE = 8, 1024, 64
Q, SCORES = f"tensor<1x{HEADS}x?x{SIZE}xf32>", f"tensor<1x{HEADS}x?x?xf32>"
BIAS = "tensor<?x?xf32>"
CAP = f"""  %cap = nn.constant dense<30.0> : tensor<f32>
  %divided = nn.div %s, %cap : {SCORES}, tensor<f32>
  %tanh = nn.tanh %divided : {SCORES}
  %capped = nn.mul %tanh, %cap : {SCORES}, tensor<f32>
"""


def program(body: str) -> str:
    """A function of queries, keys, values and a bias."""
    heads = ", ".join(
        f'%{name}: {Q} {{nn.dims = ["_", "_", "{size}", "_"]}}' for name, size in zip("qkv", "MNN", strict=True)
    )
    return f"""func.func @main({heads}, %b: {BIAS} {{nn.dims = ["M", "N"]}}) -> {Q} {{
{body}  func.return %y : {Q}
}}"""


def named(bias: bool) -> str:
    """``nn.attention``."""
    added, type_ = ("bias %b ", f", {BIAS}") if bias else ("", "")
    return program(f"  %y = nn.attention %q, %k, %v {added}accumulate f32 : {Q}, {Q}, {Q}{type_}\n")


def written(bias: bool, cap: bool = False) -> str:
    """Contraction, scale, softmax, contraction."""
    last = "%capped" if cap else "%s"
    added = f"  %biased = nn.add {last}, %b : {SCORES}, {BIAS}\n" if bias else ""
    return program(
        f"""  %scale = nn.constant dense<{SIZE**-0.5}> : tensor<f32>
  %product = nn.contract [b, h, m, n, d] %q (b, h, m, d), %k (b, h, n, d) -> (b, h, m, n) accumulate f32
      : {Q}, {Q} -> {SCORES}
  %s = nn.mul %product, %scale : {SCORES}, tensor<f32>
{CAP if cap else ""}{added}  %w = nn.softmax {"%biased" if bias else last} dim 3 : {SCORES}
  %y = nn.contract [b, h, m, e, n] %w (b, h, m, n), %v (b, h, n, e) -> (b, h, m, e) accumulate f32
      : {SCORES}, {Q} -> {Q}
"""
    )


ROWS = {
    "plain": (named(False), written(False)),
    "bias": (named(True), written(True)),
    "soft cap and bias": (named(True), written(True, cap=True)),
}


def milliseconds(function: Any, inputs: list[Any], out: Any) -> float:
    """Processor time of one call."""
    begin = process_time()
    function(*inputs, out=out, threads=1)
    return 1e3 * (process_time() - begin)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    inputs = [random.standard_normal((1, HEADS, QUERIES, SIZE), np.float32) for _ in range(3)]
    inputs.append(random.standard_normal((QUERIES, QUERIES), np.float32))
    found: dict[str, dict[str, float]] = {}
    for name, texts in ROWS.items():
        functions = [crosstile.compile(text) for text in texts]
        out = functions[0](*inputs, threads=1)
        turns = [[milliseconds(function, inputs, out) for function in functions] for _ in range(arguments.rounds)]
        found[name] = {
            "named": median(turn[0] for turn in turns),
            "written out": median(turn[1] for turn in turns),
            "ratio": median(turn[1] / turn[0] for turn in turns),
        }
    if arguments.json:
        print(json.dumps(found))
        return
    for name, row in found.items():
        print(f"{name:<18} named {row['named']:6.2f} ms  written out {row['written out']:6.2f} ms  {row['ratio']:.3f}")


if __name__ == "__main__":
    main()
