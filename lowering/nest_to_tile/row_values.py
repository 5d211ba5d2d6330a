"""What does not vary along a sweep is computed before it: one number per row, not one per element.

A value is computed where it is first needed, which is inside of the sweep. The mean of a row, its scale, and the
reciprocal of its sum do not change along the row, so the sweep's nests are searched for them and they are computed
ahead, where all trips of the sweep find them. With ``fastmath<arcp>`` a division by such a value is a product with its
reciprocal::

    %sum = tile.reduce add ... : !tile.tile<1x1xf32>
    %reciprocal = tile.map (%sum) { 1.0 / sum }
    tile.for %n ... { tile.map (%e, %reciprocal) { e * reciprocal } }
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from crosstile.dialects.nest.axes import Axis, axes_among
from crosstile.dialects.nest.generic import GenericOp
from crosstile.lowering.nest_to_tile.divisors import is_divisor
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place


def compute_before(builder: KernelBuilder, place: Place, nests: Iterable[GenericOp], swept: Collection[Axis]) -> None:
    """Compute at ``place`` what ``nests`` and the elementwise nests before them need and ``swept`` does not change."""
    axes, seen, pending = builder.axes, set[GenericOp](), list(nests)
    while pending:
        nest = pending.pop()
        if nest in seen:
            continue
        seen.add(nest)
        for position, operand in enumerate(nest.inputs):
            if not nest.body.block.args[position].uses:
                continue  # an input that only gives the size of an axis holds nothing
            along = axes.of_operand(nest, position)
            owner = operand.owner
            if not any(axis in swept for axis in axes_among(along)) and place.spans.keys() >= set(axes_among(along)):
                tile = builder.tile(place, operand, along, position in nest.clipped_inputs)
                if is_divisor(nest.body.block, position) and any(axis in swept for axis in axes.of_nest(nest)):
                    builder.reciprocal(place, tile)
            elif isinstance(owner, GenericOp) and owner.combiner is None and not builder.is_kept(operand):
                pending.append(owner)
