"""The ``nn`` dialect: tensor programs, the level that says what to compute.

Values are builtin tensors and any dimension may be ``?``. A two-layer network on a batch of any size::

    func.func @main(%x : tensor<?x64xf32> {nn.dims = ["N", "_"]}, %w : tensor<64x10xf32>) -> tensor<?x10xf32> {
      %h = nn.matmul %x, %w accumulate f32 : tensor<?x64xf32>, tensor<64x10xf32> -> tensor<?x10xf32>
      %a = nn.gelu %h : tensor<?x10xf32>
      %y = nn.softmax %a dim 1 : tensor<?x10xf32>
      func.return %y : tensor<?x10xf32>
    }

Files: ``elementwise``, ``contraction``, ``convolution``, ``reduction``, ``attention`` and ``reshaping`` (operations),
``shapes`` (inference), ``syntax`` (their common text), ``canonicalization`` and its patterns, ``dims`` (names of
dimensions), ``composites`` (softmax and the like in primitives), ``meaning`` (what is computed, in NumPy),
``error_bound`` with ``bounded`` and ``bounded_sums`` (how far a result may be off).
"""

from xdsl.ir import Dialect

from crosstile.dialects.nn.attention import AttentionOp, CausalMaskOp
from crosstile.dialects.nn.contraction import BatchMatmulOp, ContractOp, MatmulOp
from crosstile.dialects.nn.convolution import Conv2dOp
from crosstile.dialects.nn.elementwise import BINARY, UNARY, CastOp, ConstantOp
from crosstile.dialects.nn.reduction import LayerNormOp, ReduceOp, RmsNormOp, SoftmaxOp
from crosstile.dialects.nn.reshaping import BroadcastOp, ReshapeOp, TransposeOp

Nn = Dialect(
    "nn",
    [
        ConstantOp,
        *UNARY,
        *BINARY,
        CastOp,
        MatmulOp,
        BatchMatmulOp,
        ContractOp,
        Conv2dOp,
        ReduceOp,
        SoftmaxOp,
        LayerNormOp,
        RmsNormOp,
        AttentionOp,
        CausalMaskOp,
        TransposeOp,
        ReshapeOp,
        BroadcastOp,
    ],
    [],
)
