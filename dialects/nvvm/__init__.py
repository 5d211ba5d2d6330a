"""The ``nvvm`` dialect of the hardware level: instructions of NVIDIA's GPUs, in upstream MLIR's names and syntax.

Files by subject: ``special`` registers, ``synchronisation`` (barriers, fences, shuffles), ``clusters``, ``copies``
(cp.async, tensor copies), ``matrices`` (mma.sync, ldmatrix, prmt), ``warpgroup`` (wgmma). Document: PTX ISA 8.7, the
sections of these names.
"""

from xdsl.ir import Dialect

from crosstile.dialects.nvvm.attributes import (
    CacheAttr,
    MmaLayoutAttr,
    MmaTypeAttr,
    PermuteModeAttr,
    ProxyKindAttr,
    RegisterActionAttr,
    ScaleInAttr,
    ScaleOutAttr,
    ShapeAttr,
    SharedSpaceAttr,
    ShuffleKindAttr,
    WgmmaTypeAttr,
)
from crosstile.dialects.nvvm.clusters import CLUSTERS
from crosstile.dialects.nvvm.copies import COPIES
from crosstile.dialects.nvvm.matrices import MATRICES
from crosstile.dialects.nvvm.special import SPECIAL
from crosstile.dialects.nvvm.synchronisation import SYNCHRONISATION
from crosstile.dialects.nvvm.warpgroup import WARPGROUP

Nvvm = Dialect(
    "nvvm",
    [*SPECIAL, *SYNCHRONISATION, *CLUSTERS, *COPIES, *MATRICES, *WARPGROUP],
    [
        *(CacheAttr, MmaLayoutAttr, MmaTypeAttr, ProxyKindAttr, RegisterActionAttr, ScaleInAttr, ScaleOutAttr),
        *(PermuteModeAttr, ShapeAttr, SharedSpaceAttr, ShuffleKindAttr, WgmmaTypeAttr),
    ],
)
