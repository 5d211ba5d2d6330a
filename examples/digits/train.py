"""Train the digits classifier with NumPy alone and write ``weights.npz`` beside this file.

    python examples/digits/train.py

The network is the one of ``digits.mlir``: linear 64 -> 96, gelu, layer norm, linear 96 -> 10, softmax. It learns from
1437 images by Adam on the cross entropy; the other 360, chosen by a fixed shuffle before training, are only used to
report the accuracy, after the last step. Their indices are stored with the weights.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = dict[str, Array]

FOLDER = Path(__file__).resolve().parent
HIDDEN, CLASSES, HELD_OUT = 96, 10, 360
EPOCHS, BATCH, RATE, DECAY = 60, 32, 2e-3, 2e-2
EPSILON = 1e-5
_erf = np.frompyfunc(math.erf, 1, 1)


def initial_weights(random: np.random.Generator) -> Weights:
    """Normal weights of variance 2 / fan-in, no bias, the identity as layer norm."""
    return {
        "w1": random.standard_normal((64, HIDDEN)) * math.sqrt(2 / 64),
        "b1": np.zeros(HIDDEN),
        "gamma": np.ones(HIDDEN),
        "beta": np.zeros(HIDDEN),
        "w2": random.standard_normal((HIDDEN, CLASSES)) * math.sqrt(2 / HIDDEN),
        "b2": np.zeros(CLASSES),
    }


def forward(weights: Weights, pixels: Array) -> tuple[Array, dict[str, Array]]:
    """Class probabilities of images of 64 pixels from 0 to 16, and what the gradient needs."""
    x = pixels / 16
    linear = x @ weights["w1"] + weights["b1"]
    cumulative = 0.5 * (1 + np.asarray(_erf(linear / math.sqrt(2)), np.float64))
    active = linear * cumulative
    centred = active - active.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
    normal = centred * scale
    logits = (normal * weights["gamma"] + weights["beta"]) @ weights["w2"] + weights["b2"]
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    kept = {"x": x, "linear": linear, "cumulative": cumulative, "scale": scale, "normal": normal}
    return exponential / exponential.sum(axis=1, keepdims=True), kept


def gradient(weights: Weights, pixels: Array, labels: Array) -> Weights:
    """The gradient of the mean cross entropy."""
    probabilities, kept = forward(weights, pixels)
    on_logits = (probabilities - np.eye(CLASSES)[labels]) / len(labels)
    normal = kept["normal"]
    scaled = normal * weights["gamma"] + weights["beta"]
    on_scaled = on_logits @ weights["w2"].T
    on_normal = on_scaled * weights["gamma"]
    mean, projection = on_normal.mean(axis=1, keepdims=True), (on_normal * normal).mean(axis=1, keepdims=True)
    on_active = kept["scale"] * (on_normal - mean - normal * projection)
    density = np.exp(-0.5 * kept["linear"] ** 2) / math.sqrt(2 * math.pi)
    on_linear = on_active * (kept["cumulative"] + kept["linear"] * density)
    return {
        "w1": kept["x"].T @ on_linear,
        "b1": on_linear.sum(axis=0),
        "gamma": (on_scaled * normal).sum(axis=0),
        "beta": on_scaled.sum(axis=0),
        "w2": scaled.T @ on_logits,
        "b2": on_logits.sum(axis=0),
    }


def train(images: Array, labels: Array, random: np.random.Generator) -> Weights:
    """Adam with decoupled weight decay on the matrices and a rate that falls to zero as a cosine."""
    weights = initial_weights(random)
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    steps = EPOCHS * -(-len(images) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = random.permutation(len(images))
        for start in range(0, len(images), BATCH):
            chosen = order[start : start + BATCH]
            step += 1
            rate = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            for name, slope in gradient(weights, images[chosen], labels[chosen]).items():
                first[name] += 0.1 * (slope - first[name])
                second[name] += 0.001 * (slope**2 - second[name])
                update = first[name] / (1 - 0.9**step) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
                decay = DECAY * weights[name] if weights[name].ndim == 2 else 0.0
                weights[name] = weights[name] - rate * (update + decay)
    return weights


def main() -> None:
    """Train, report the accuracy on both parts, write the weights in float32."""
    with np.load(FOLDER / "digits.npz") as data:
        images, labels = data["images"].astype(np.float64), data["labels"].astype(np.int64)
    random = np.random.default_rng(2024)
    order = random.permutation(len(images))
    held_out, used = np.sort(order[:HELD_OUT]), order[HELD_OUT:]
    weights = train(images[used], labels[used], random)
    for what, part in (("trained on", used), ("held out", held_out)):
        right = forward(weights, images[part])[0].argmax(axis=1) == labels[part]
        print(f"{what:10} {len(part):5} images, accuracy {right.mean():.2%}")
    stored: dict[str, Any] = {name: value.astype(np.float32) for name, value in weights.items()}
    np.savez_compressed(FOLDER / "weights.npz", held_out=held_out.astype(np.int16), **stored)


if __name__ == "__main__":
    main()
