"""PTX text from ``nvvm``-level IR: one rule per operation, no code generator in between.

In: a module after ``mma-to-nvvm`` and the passes behind it. Out: the text of a PTX module, one entry per kernel::

    %0 = nvvm.ldmatrix %p {num = 4 : i32, layout = #nvvm.mma_layout<row>} : (!llvm.ptr<3>) -> ...
    ==>
    .loc 1 85 16
    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r21, %r22, %r23, %r24}, [%r17+1024];

``.loc`` names the line of the program that an instruction comes from. Rules are in ``printing/``: ``scalars``,
``instructions``, ``control``; registers and copies in ``printing/registers.py``. ptxas gives the registers.
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects import llvm, scf
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, ModuleOp
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Attribute, Block, Operation

from crosstile.ir.diagnostics import CrosstileError
from crosstile.lowering.mma_to_nvvm.kernel_state import GENERIC, SHARED_ALIGNMENT, SHARED_MEMORY
from crosstile.targets.model import machine
from crosstile.targets.nvidia.printing.control import print_for, print_if
from crosstile.targets.nvidia.printing.instructions import INSTRUCTIONS, Rule
from crosstile.targets.nvidia.printing.registers import CLASSES, Text, register_class
from crosstile.targets.nvidia.printing.scalars import SCALARS

VERSION = "8.3"
"""The version of the PTX ISA; the newest that an instruction here needs is 8.0."""
TENSOR_MAP_BYTES = 128
RULES: Mapping[str, Rule] = {**SCALARS, **INSTRUCTIONS}
PURE_PREFIXES = ("arith.", "math.", "vector.", "nvvm.read.", "nvvm.shfl")
PURE = frozenset(
    (
        *("llvm.getelementptr", "llvm.extractvalue", "llvm.insertvalue", "llvm.insertelement", "llvm.bitcast"),
        *("llvm.mlir.undef", "llvm.mlir.addressof", "llvm.ptrtoint", "llvm.inttoptr", "llvm.load", "nvvm.mapa"),
    )
)


def emit(module: ModuleOp) -> str:
    """The PTX of all kernels of ``module``; a CrosstileError for an operation without a rule."""
    kernels = [op for op in module.body.block.ops if isinstance(op, llvm.FuncOp) and "nvvm.kernel" in op.attributes]
    if not kernels:
        raise CrosstileError("the module has no kernel: no llvm.func with the attribute nvvm.kernel")
    targets = {str(getattr(op.attributes["crosstile.target"], "data", "")) for op in kernels}
    if len(targets) != 1:
        raise CrosstileError(f"kernels for {', '.join(sorted(targets))} in one module; PTX has one target")
    files: list[str] = []
    bodies = [_kernel(op, files) for op in kernels]
    lines = [f".version {VERSION}", f".target {machine(targets.pop()).cpu}", ".address_size 64", ""]
    lines += [f".extern .shared .align {SHARED_ALIGNMENT} .b8 {SHARED_MEMORY}[];", ""]
    lines += [line for body in bodies for line in body]
    lines += [f'.file {number} "{name}"' for number, name in enumerate(files, 1)]
    return "\n".join(lines) + "\n"


def _kernel(op: llvm.FuncOp, files: list[str]) -> list[str]:
    name, text = op.sym_name.data, Text()
    text.files = files
    block = op.body.block
    parameters: list[str] = []
    for number, argument in enumerate(block.args):
        parameter = f"{name}_param_{number}"
        parameters.append(_parameter(argument.type, parameter))
        register = text.one(argument)
        if argument.type == GENERIC:
            address = text.register("rd")
            text.line(f"mov.b64 {address}, {parameter}")
            text.line(f"cvta.param.u64 {register}, {address}")
            continue
        kind = register_class(argument.type)
        text.line(f"ld.param{_parameter_type(kind)} {register}, [{parameter}]")
        if isinstance(argument.type, LLVMPointerType):
            text.line(f"cvta.to.global.u64 {register}, {register}")
    dead = _dead(op)
    _print_block(block, text, dead)
    header = [f".visible .entry {name}("]
    header += [",\n".join(f"\t{parameter}" for parameter in parameters), ")"]
    threads = op.attributes["nvvm.reqntid"]
    assert isinstance(threads, DenseArrayBase)
    header.append(f".reqntid {', '.join(map(str, threads.iter_values()))}")
    cluster = op.attributes.get("nvvm.cluster_dim")
    if isinstance(cluster, DenseArrayBase):
        header += [".explicitcluster", f".reqnctapercluster {', '.join(map(str, cluster.iter_values()))}"]
    registers = op.attributes.get("nvvm.maxnreg")
    if isinstance(registers, IntegerAttr):
        header.append(f".maxnreg {registers.value.data}")
    declarations = [f"\t.reg {CLASSES[kind]} %{kind}<{count + 1}>;" for kind, count in text.counts.items() if count]
    return [*header, "{", *declarations, *text.lines, "}", ""]


def _parameter_type(kind: str) -> str:
    return {"r": ".u32", "rd": ".u64", "f": ".f32", "fd": ".f64", "h": ".b16"}[kind]


def _parameter(type_: Attribute, name: str) -> str:
    if type_ == GENERIC:
        return f".param .align 64 .b8 {name}[{TENSOR_MAP_BYTES}]"
    return f".param {_parameter_type(register_class(type_))} {name}"


def _dead(function: llvm.FuncOp) -> set[Operation]:
    """Operations whose results nobody needs."""
    dead: set[Operation] = set()

    def visit(block: Block) -> None:
        for op in reversed(list(block.ops)):
            for region in op.regions:
                for inner in region.blocks:
                    visit(inner)
            pure = op.name in PURE or op.name.startswith(PURE_PREFIXES)
            if pure and all(use.operation in dead for result in op.results for use in result.uses):
                dead.add(op)

    visit(function.body.block)
    return dead


def _print_block(block: Block, text: Text, dead: set[Operation]) -> None:
    for op in block.ops:
        if op in dead or op.name in ("scf.yield", "arith.constant"):
            continue
        text.locate(op)
        if isinstance(op, scf.ForOp):
            print_for(op, text, lambda inner: _print_block(inner, text, dead))
        elif isinstance(op, scf.IfOp):
            print_if(op, text, lambda inner: _print_block(inner, text, dead))
        elif isinstance(op, llvm.ReturnOp):
            text.line("ret")
        else:
            rule = RULES.get(op.name)
            if rule is None:
                raise CrosstileError(f"'{op.name}' has no rule that prints it as PTX", op.location)
            rule(op, text)
