"""Arguments that are weights: ``{nn.weight}`` marks one that stays the same from call to call.

    func.func @main(%x : tensor<?x64xf32>, %w : tensor<64x96xf32> {nn.weight}) -> tensor<?x96xf32>

The mark promises nothing and changes no result. It says which arguments a caller may bind ahead of the calls; those are
packed once, as the kernels that read them like to have them (``pack-weights``).
"""

from __future__ import annotations

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument
from xdsl.utils.hints import isa

from crosstile.ir.diagnostics import op_error

WEIGHT = "nn.weight"


def weight_arguments(function: FuncOp) -> list[BlockArgument]:
    """The arguments of a function marked as weights; a CrosstileError for a mark on what is no tensor or memref."""
    if function.arg_attrs is None or not function.body.blocks:
        return []
    marked: list[BlockArgument] = []
    for argument, attributes in zip(function.body.block.args, function.arg_attrs, strict=True):
        if WEIGHT not in attributes.data:
            continue
        if not isa(argument.type, TensorType) and not argument.type.name == "memref":
            raise op_error(
                function, f"argument {argument.index} is marked {WEIGHT}, but a {argument.type} is no tensor"
            )
        marked.append(argument)
    return marked
