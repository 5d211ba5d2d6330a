"""Attention of few queries over many keys, as for each new word of a language model: how fast keys come from memory.

    python bench/few_queries.py [--rounds 15] [--queries 1] [--element bf16] [--json]

One kernel is compared with three, which hold all weights because they are results as well, with torch where it is
installed, and with what a sum over the same keys and values reads, on one thread. All take their turns in every round.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib import import_module
from statistics import median
from time import perf_counter
from typing import Any

import ml_dtypes
import numpy as np

import crosstile

ROWS = [(8, 8, 64), (8, 8, 128), (32, 8, 128)]
"""Heads, those that have keys of their own, and numbers of a head."""
KEYS = (1024, 4096, 16384)
DTYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}
LEAST_SECONDS = 2e-3
"""Of a measurement: short calls are repeated."""


def program(heads: int, shared: int, size: int, queries: int, element: str, all_weights: bool) -> str:
    """Attention written out; with ``all_weights`` the weights are a result as well, which takes three kernels."""
    group = heads // shared
    q = f"tensor<{shared}x{group}x{queries}x{size}x{element}>"
    k = f"tensor<{shared}x?x{size}x{element}>"
    s, w = (f"tensor<{shared}x{group}x{queries}x?x{each}>" for each in ("f32", element))
    scale = f"dense<{size**-0.5}> : tensor<f32>"
    results, returned, types = (f"({q}, {w})", "%y, %w", f"{q}, {w}") if all_weights else (q, "%y", q)
    rounded = "" if element == "f32" else f"  %w = nn.cast %p : {s} -> {w}\n"
    return f"""func.func @main(%q: {q}, %k: {k}, %v: {k}) -> {results} {{
  %scale = nn.constant {scale}
  %product = nn.contract [h, g, m, n, d] %q (h, g, m, d), %k (h, n, d) -> (h, g, m, n) accumulate f32 : {q}, {k} -> {s}
  %s = nn.mul %product, %scale : {s}, tensor<f32>
  %{"p" if rounded else "w"} = nn.softmax %s dim 3 : {s}
{rounded}  %y = nn.contract [h, g, m, e, n] %w (h, g, m, n), %v (h, n, e) -> (h, g, m, e) accumulate f32
      : {w}, {k} -> {q}
  func.return {returned} : {types}
}}"""


def contenders(arrays: list[Any], shape: tuple[int, int, int, int], element: str) -> dict[str, Callable[[], Any]]:
    """What is measured, by name; each is a call without arguments."""
    found: dict[str, Callable[[], Any]] = {}
    for name, all_weights in (("one kernel", False), ("three", True)):
        function = crosstile.compile(program(*shape, element, all_weights))
        out = function(*arrays, threads=1)
        found[name] = lambda function=function, out=out: function(*arrays, out=out, threads=1)
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return found
    torch.set_num_threads(1)
    words = [
        torch.from_numpy(np.ascontiguousarray(array).view(np.int16 if element == "bf16" else array.dtype))
        for array in arrays
    ]
    q, k, v = (each.view(torch.bfloat16) if element == "bf16" else each for each in words)
    q = q.reshape(1, -1, *q.shape[2:])
    attend = torch.nn.functional.scaled_dot_product_attention
    found["torch"] = lambda: attend(q, k[None], v[None], enable_gqa=q.shape[1] != k.shape[0])
    return found


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Of one call."""
    begin = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - begin) / repeats


def main() -> None:
    """Print the table: GB/s of keys and values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--element", choices=list(DTYPES), default="f32")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    random, dtype = np.random.default_rng(0), DTYPES[arguments.element]
    found: list[dict[str, Any]] = []
    for heads, shared, size in ROWS:
        for keys in KEYS:
            shapes = [(shared, heads // shared, arguments.queries, size), (shared, keys, size), (shared, keys, size)]
            arrays = [random.standard_normal(shape, np.float32).astype(dtype) for shape in shapes]
            calls = contenders(arrays, (heads, shared, size, arguments.queries), arguments.element)
            words = [array.view(np.float32) for array in arrays[1:]]
            calls["sum"] = lambda words=words: [word.max() for word in words]
            once = {name: seconds(call, 1) for name, call in calls.items()}
            turns = [
                {name: seconds(call, 1 + int(LEAST_SECONDS / once[name])) for name, call in calls.items()}
                for _ in range(arguments.rounds)
            ]
            volume = sum(array.nbytes for array in arrays[1:])
            rates = {name: volume / median(turn[name] for turn in turns) / 1e9 for name in calls}
            found.append({"heads": heads, "shared": shared, "size": size, "keys": keys, **rates})
            if not arguments.json:
                rest = "  ".join(f"{name} {rate:5.1f}" for name, rate in rates.items())
                print(f"{heads:2} heads of {size:3}, keys of {shared}, {keys:6} each: GB/s {rest}", flush=True)
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
