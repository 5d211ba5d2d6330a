"""The digits classifier: trained weights read held-out images, and the demo says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from round_trip import parse

from crosstile.dialects.nn.meaning import reference

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "digits"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"digits_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_program_is_the_network_that_was_trained():
    images, _, weights, _ = script("demo").load()
    (found,) = reference(parse((FOLDER / "digits.mlir").read_text()), "main", [images, *weights])
    names = script("demo").WEIGHTS
    named: dict[str, Any] = {name: value.astype(np.float64) for name, value in zip(names, weights, strict=True)}
    expected, _ = script("train").forward(named, images.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_training_starts_over_to_the_same_split_and_gradients_are_derivatives():
    train = script("train")
    random = np.random.default_rng(0)
    weights = train.initial_weights(random)
    pixels, labels = random.integers(0, 17, (5, 64)).astype(np.float64), random.integers(0, 10, 5)

    def loss() -> float:
        probabilities, _ = train.forward(weights, pixels)
        return float(-np.log(probabilities[np.arange(5), labels]).mean())

    slopes = train.gradient(weights, pixels, labels)
    for name, slope in slopes.items():
        shape: tuple[int, ...] = slope.shape
        place = tuple(int(random.integers(size)) for size in shape)
        kept = weights[name][place]
        around: list[float] = []
        for step in (1e-6, -1e-6):
            weights[name][place] = kept + step
            around.append(loss())
        weights[name][place] = kept
        assert slope[place] == pytest.approx((around[0] - around[1]) / 2e-6, rel=1e-4, abs=1e-8), name
    with np.load(FOLDER / "weights.npz") as data:
        order = np.random.default_rng(2024).permutation(1797)
        np.testing.assert_array_equal(data["held_out"], np.sort(order[: train.HELD_OUT]))


def test_the_demo_reads_held_out_images_within_the_bound(capsys: pytest.CaptureFixture[str]):
    assert script("demo").main() == 0
    printed = capsys.readouterr().out
    accuracy = float(printed.partition("accuracy")[2].partition("%")[0])
    assert accuracy >= 96.0
    assert "check       right" in printed and "matmul_add_gelu" in printed
