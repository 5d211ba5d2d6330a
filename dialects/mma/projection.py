"""Is an operand where it is used? The rule of arithmetic on fragments: no element changes its register.

A row sum of ``tile(4, 64) register(4:64, 4:16) lane(16:1)`` has one number per row, in each of the 16 lanes that hold a
part of the row: ``tile(4, 1) register(4:1) lane(16:0)``. Copies in further registers of a lane may be left out.
"""

from __future__ import annotations

from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.mma.attributes import canonical, projected
from crosstile.dialects.mma.types import FragmentType
from crosstile.targets.layout import LayoutError


def verify_projection(part: FragmentType, whole: FragmentType, what: str) -> None:
    """``part`` is laid out like ``whole``, and replicated along the dimensions where its size is 1."""
    shape, full = part.get_shape(), whole.get_shape()
    if len(shape) != len(full) or any(size not in (1, most) for size, most in zip(shape, full, strict=False)):
        raise VerifyException(
            f"{what} has shape {list(shape)}, which does not broadcast to {list(full)}: each size must be that or 1"
        )
    try:
        expected = projected(whole.layout.data, shape)
    except LayoutError as error:
        raise VerifyException(
            f"{what}: no layout of shape {list(shape)} follows {whole.layout.data}: {error}"
        ) from error
    if canonical(part.layout.data) != expected:
        raise VerifyException(
            f"{what} is laid out as {part.layout.data}, but its elements must be where they are used: "
            f"{expected}; mma.relayout moves data between registers"
        )
