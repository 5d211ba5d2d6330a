"""The lazy tables of dialects and passes: adding one is one row here, and nothing is imported until it is used.

``DIALECTS`` and ``PASSES`` hold what crosstile defines. The look-ups below also cover every dialect and pass of xDSL;
a name of ours wins over one of xDSL's.

    DialectRow("nn", "crosstile.dialects.nn:Nn", "tensor programs: what to compute")
    PassRow(
        "channels-last",
        "crosstile.passes.channels_last:ChannelsLastPass",
        "nn",
        "convolutions with channels last, between transpositions",
    ),
    PassRow("nn-to-nest", "crosstile.lowering.nn_to_nest:NnToNestPass", "nn", "primitive operators to loop nests"),
    PassRow("fuse", "crosstile.passes.fuse:FusePass", "nest", "merge producers into their consumers' nests")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from crosstile.ir.diagnostics import CrosstileError

if TYPE_CHECKING:
    from xdsl.ir import Dialect
    from xdsl.passes import ModulePass

LEVELS: dict[str, str] = {
    "nn": "tensor programs",
    "nest": "loop nests on tensors",
    "tile": "tile programs",
    "mma": "fragments on a machine's matrix unit",
    "hardware": "thin ops next to upstream's",
    "any": "every level",
}
"""The level a pass starts from, and what a module consists of there, from the highest to the lowest."""


@dataclass(frozen=True)
class DialectRow:
    """A dialect of ours: ``target`` is ``module:object`` of its ``Dialect``."""

    name: str
    target: str
    summary: str


@dataclass(frozen=True)
class PassRow:
    """A pass of ours: ``target`` is ``module:class``, ``level`` a key of ``LEVELS``, ``summary`` its line of help."""

    name: str
    target: str
    level: str
    summary: str

    def __post_init__(self):
        if self.level not in LEVELS:
            raise ValueError(f"pass '{self.name}': level '{self.level}' is none of {', '.join(LEVELS)}")


DIALECTS: tuple[DialectRow, ...] = (
    DialectRow("nn", "crosstile.dialects.nn:Nn", "tensor programs: what to compute"),
    DialectRow("nest", "crosstile.dialects.nest:Nest", "linalg-like loop nests, combiners, fused kernels, schedules"),
    DialectRow("tile", "crosstile.dialects.tile:Tile", "tile programs: blocks moved and combined by one kernel"),
    DialectRow("mma", "crosstile.dialects.mma:Mma", "fragments, layouts, intrinsics, rings and roles"),
    DialectRow("arith", "crosstile.dialects.arith:Arith", "xDSL's arith, with all of it elementwise over vectors"),
    DialectRow("memref", "crosstile.dialects.memref:MemRef", "xDSL's memref, with upstream's prefetch"),
    DialectRow("vector", "crosstile.dialects.vector:Vector", "xDSL's vector, with what it lacks of upstream's"),
    DialectRow("x86vector", "crosstile.dialects.x86vector:X86Vector", "vector instructions of x86, upstream's"),
    DialectRow("amx", "crosstile.dialects.amx:Amx", "tile registers of x86 and products of them, upstream's"),
    DialectRow("nvvm", "crosstile.dialects.nvvm:Nvvm", "instructions of NVIDIA's GPUs, upstream's"),
    DialectRow("llvm", "crosstile.dialects.llvm:Llvm", "xDSL's llvm, with upstream's vector operations it lacks"),
)

PASSES: tuple[PassRow, ...] = (
    PassRow("decompose", "crosstile.passes.decompose:DecomposePass", "nn", "composite operators to primitives"),
    PassRow(
        "widen-float8",
        "crosstile.passes.widen_float8:WidenFloat8Pass",
        "nn",
        "products of 8-bit floats that a machine lacks as products of bf16",
    ),
    PassRow(
        "channels-last",
        "crosstile.passes.channels_last:ChannelsLastPass",
        "nn",
        "convolutions with channels last, between transpositions",
    ),
    PassRow("nn-to-nest", "crosstile.lowering.nn_to_nest:NnToNestPass", "nn", "primitive operators to loop nests"),
    PassRow("fuse", "crosstile.passes.fuse:FusePass", "nest", "merge nests and group them into kernels"),
    PassRow(
        "fuse-attention",
        "crosstile.passes.fuse_attention:FuseAttentionPass",
        "nest",
        "products around a softmax to one kernel with a running maximum",
    ),
    PassRow(
        "fuse-row-chains",
        "crosstile.passes.fuse_row_chains:FuseRowChainsPass",
        "nest",
        "products with folds in order between them to one kernel with rows in scratch",
    ),
    PassRow(
        "fuse-factors",
        "crosstile.passes.fuse_factors:FuseFactorsPass",
        "nest",
        "what computes a factor of a product into the product's kernel",
    ),
    PassRow(
        "collapse-dimensions",
        "crosstile.passes.collapse_dimensions:CollapseDimensionsPass",
        "nest",
        "dimensions that lie one after the other walked as one",
    ),
    PassRow(
        "choose-schedule", "crosstile.passes.choose_schedule:ChooseSchedulePass", "nest", "schedules from a machine row"
    ),
    PassRow(
        "split-contraction",
        "crosstile.passes.split_contraction:SplitContractionPass",
        "nest",
        "products of few blocks and a long k as parts of k and their sum",
    ),
    PassRow(
        "offset-signs",
        "crosstile.passes.offset_signs:OffsetSignsPass",
        "nest",
        "products of bytes by instructions for other signs",
    ),
    PassRow(
        "pack-weights", "crosstile.passes.pack_weights:PackWeightsPass", "nest", "what stays the same, packed once"
    ),
    PassRow("nest-to-tile", "crosstile.lowering.nest_to_tile:NestToTilePass", "nest", "kernels to tile programs"),
    PassRow(
        "plan-buffers", "crosstile.passes.plan_buffers:PlanBuffersPass", "tile", "temporaries into one shared arena"
    ),
    PassRow(
        "arith-emulate-unsupported-floats",
        "crosstile.passes.arith_emulate_unsupported_floats:ArithEmulateUnsupportedFloatsPass",
        "hardware",
        "arithmetic of bf16 and f16 by way of f32, the same on every machine",
    ),
    PassRow(
        "round-to-bf16",
        "crosstile.passes.round_to_bf16:RoundToBf16Pass",
        "hardware",
        "approximate numbers to bf16 by the machine's instruction",
    ),
    PassRow(
        "expand-math",
        "crosstile.passes.expand_math:ExpandMathPass",
        "hardware",
        "exp, log, tanh, erf, ... of f32 to arithmetic that is the same on every machine",
    ),
    PassRow(
        "control-flow-sink",
        "crosstile.passes.control_flow_sink:ControlFlowSinkPass",
        "hardware",
        "what one branch alone needs into that branch",
    ),
    PassRow(
        "convert-scf-to-cf",
        "crosstile.lowering.convert_scf_to_cf:ConvertScfToCfPass",
        "hardware",
        "structured control flow to branches; loops guarded and tested at their end",
    ),
    PassRow(
        "convert-to-llvm",
        "crosstile.lowering.convert_to_llvm:ConvertToLlvmPass",
        "hardware",
        "func, cf, arith, math, memref, vector, x86vector and amx to the llvm dialect",
    ),
    PassRow(
        "tile-to-mma",
        "crosstile.lowering.tile_to_mma:TileToMmaPass",
        "tile",
        "tiles to registers and scratch, contractions to a machine's instructions",
    ),
    PassRow(
        "rotate-loads",
        "crosstile.passes.rotate_loads:RotateLoadsPass",
        "mma",
        "factors loaded while the products before them run",
    ),
    PassRow(
        "overlap-products",
        "crosstile.passes.overlap_products:OverlapProductsPass",
        "mma",
        "products that run while the next trip computes their factors",
    ),
    PassRow(
        "peel-loops",
        "crosstile.passes.peel_loops:PeelLoopsPass",
        "mma",
        "the trips of a loop that need no masks apart from the last ones",
    ),
    PassRow(
        "mma-to-hardware",
        "crosstile.lowering.mma_to_hardware:MmaToHardwarePass",
        "mma",
        "fragments to vector registers, kernels to functions",
    ),
    PassRow(
        "mma-to-nvvm",
        "crosstile.lowering.mma_to_nvvm:MmaToNvvmPass",
        "mma",
        "fragments to registers of threads, kernels to functions for NVIDIA's GPUs",
    ),
)


def load_object(target: str) -> object:
    """The object that ``module:name`` names."""
    module, name = target.split(":")
    return getattr(import_module(module), name)


def dialect_factories() -> dict[str, Callable[[], Dialect]]:
    """Every known dialect, ours and xDSL's, by name; calling the factory imports it."""
    from xdsl.dialects import get_all_dialects

    def factory(row: DialectRow) -> Callable[[], Dialect]:
        return lambda: cast("Dialect", load_object(row.target))

    return {**get_all_dialects(), **{row.name: factory(row) for row in DIALECTS}}


def xdsl_pass_factories() -> dict[str, Callable[[], type[ModulePass]]]:
    """xDSL's passes by name, without those whose name we use."""
    from xdsl.transforms import get_all_passes

    ours = {row.name for row in PASSES}
    return {name: factory for name, factory in get_all_passes().items() if name not in ours}


def pass_names() -> list[str]:
    """The names of every known pass: ours in the order of the table, then xDSL's."""
    return [row.name for row in PASSES] + sorted(xdsl_pass_factories())


def find_pass(name: str) -> type[ModulePass]:
    """The class of the pass ``name``; a CrosstileError with the nearest names if there is none."""
    for row in PASSES:
        if row.name == name:
            return cast("type[ModulePass]", load_object(row.target))
    factory = xdsl_pass_factories().get(name)
    if factory is None:
        raise CrosstileError(f"unknown pass '{name}'{did_you_mean(name, pass_names())}")
    try:
        return factory()
    except ImportError as error:
        raise CrosstileError(f"pass '{name}' of xDSL needs a package that is not installed: {error}") from error


def did_you_mean(name: str, candidates: list[str]) -> str:
    """``; did you mean 'x'?`` with the nearest candidate, or two about equally near, or an empty string."""
    from difflib import SequenceMatcher, get_close_matches

    near = get_close_matches(name, candidates, n=2, cutoff=0.65)
    ratios = [SequenceMatcher(None, name, candidate).ratio() for candidate in near]
    shown = [candidate for candidate, ratio in zip(near, ratios, strict=True) if ratio > ratios[0] - 0.1]
    return f"; did you mean {' or '.join(map(repr, shown))}?" if shown else ""
