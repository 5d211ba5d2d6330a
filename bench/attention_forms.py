"""Attention as one operator and written out: the same kernel, so the same time, on one thread.

    python bench/attention_forms.py [--rounds 15] [--json]

The forms take their turns in every round; the ratio is the median of the ratios within the rounds. A soft cap has no
operator, and scores that are rounded are no ``nn.attention``'s: their rows say what they cost.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from time import process_time
from typing import Any

import ml_dtypes
import numpy as np

import crosstile

HEADS, QUERIES, SIZE = 8, 1024, 64


def program(body: str, element: str) -> str:
    """A function of queries, keys and values of type ``element``, and a bias of f32."""
    type_ = f"tensor<1x{HEADS}x?x{SIZE}x{element}>"
    heads = ", ".join(
        f'%{name}: {type_} {{nn.dims = ["_", "_", "{size}", "_"]}}' for name, size in zip("qkv", "MNN", strict=True)
    )
    return f"""func.func @main({heads}, %b: tensor<?x?xf32> {{nn.dims = ["M", "N"]}}) -> {type_} {{
{body}  func.return %y : {type_}
}}"""


def named(bias: bool = False, element: str = "f32") -> str:
    """``nn.attention``."""
    type_ = f"tensor<1x{HEADS}x?x{SIZE}x{element}>"
    added, bias_type = ("bias %b ", ", tensor<?x?xf32>") if bias else ("", "")
    return program(
        f"  %y = nn.attention %q, %k, %v {added}accumulate f32 : {type_}, {type_}, {type_}{bias_type}\n", element
    )


def written(bias: bool = False, cap: bool = False, element: str = "f32", scores: str = "f32") -> str:
    """Contraction, scale, softmax, contraction, with scores of type ``scores``."""
    heads, matrix = f"tensor<1x{HEADS}x?x{SIZE}x{element}>", f"tensor<1x{HEADS}x?x?x"
    scores_type, weights_type = f"{matrix}{scores}>", f"{matrix}{element}>"
    lines = [
        f"%scale = nn.constant dense<{SIZE**-0.5}> : tensor<{scores}>",
        "%product = nn.contract [b, h, m, n, d] %q (b, h, m, d), %k (b, h, n, d) -> (b, h, m, n) accumulate f32 "
        f": {heads}, {heads} -> {scores_type}",
        f"%s = nn.mul %product, %scale : {scores_type}, tensor<{scores}>",
    ]
    last = "%s"
    if cap:
        lines += [
            f"%cap = nn.constant dense<30.0> : tensor<{scores}>",
            f"%divided = nn.div %s, %cap : {scores_type}, tensor<{scores}>",
            f"%tanh = nn.tanh %divided : {scores_type}",
            f"%capped = nn.mul %tanh, %cap : {scores_type}, tensor<{scores}>",
        ]
        last = "%capped"
    if bias:
        lines.append(f"%biased = nn.add {last}, %b : {scores_type}, tensor<?x?xf32>")
        last = "%biased"
    lines.append(f"%w = nn.softmax {last} dim 3 : {scores_type}")
    if scores != element:
        lines.append(f"%rounded = nn.cast %w : {scores_type} -> {weights_type}")
    lines.append(
        f"%y = nn.contract [b, h, m, e, n] %{'w' if scores == element else 'rounded'} (b, h, m, n), %v (b, h, n, e) "
        f"-> (b, h, m, e) accumulate f32 : {weights_type}, {heads} -> {heads}"
    )
    return program("".join(f"  {line}\n" for line in lines), element)


ROWS = {
    "plain": ("f32", named(), written()),
    "bias": ("f32", named(bias=True), written(bias=True)),
    "soft cap and bias": ("f32", named(bias=True), written(bias=True, cap=True)),
    "bf16, scores f32": ("bf16", named(element="bf16"), written(element="bf16")),
    "bf16, scores bf16": ("bf16", named(element="bf16"), written(element="bf16", scores="bf16")),
    "f16, scores f32": ("f16", named(element="f16"), written(element="f16")),
}
DTYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}


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
    heads = [random.standard_normal((1, HEADS, QUERIES, SIZE), np.float32) for _ in range(3)]
    bias = random.standard_normal((QUERIES, QUERIES), np.float32)
    found: dict[str, dict[str, float]] = {}
    for name, (element, *texts) in ROWS.items():
        inputs = [*(array.astype(DTYPES[element]) for array in heads), bias]
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
