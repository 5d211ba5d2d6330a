"""LLVM IR text of a module in the ``llvm`` dialect: what every target that ends in LLVM shares.

In: ``llvm.func`` and ``llvm.mlir.global`` in a module. Out: text that LLVM 22 reads (opaque pointers). Constants are
written where they are used, block arguments become phis, intrinsics are declared, values keep their names. Every
definition gets the function attributes that the caller asks for, such as ``target-cpu``. ::

    ^loop(%i: i64, %x: f32):                      loop:
      %n = llvm.add %i, %one : i64          ==>     %i = phi i64 [ 0, %entry ], [ %n, %loop ]
      llvm.cond_br %c, ^loop(%n, %y), ^exit         %n = add i64 %i, 1
                                                    br i1 %c, label %loop, label %exit
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from xdsl.dialects import llvm as xllvm
from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatAttr,
    IntAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
    VectorType,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import llvm
from crosstile.ir.diagnostics import CrosstileError, op_error
from crosstile.targets.llvm_constants import element_text, string_bytes
from crosstile.targets.llvm_instructions import (
    NAMED_CONSTANTS,
    PRINTERS,
    argument_words,
    flags,
    outgoing,
    symbol,
)

BINARY: Mapping[type[Operation], str] = {
    xllvm.AddOp: "add",
    xllvm.SubOp: "sub",
    xllvm.MulOp: "mul",
    xllvm.UDivOp: "udiv",
    xllvm.SDivOp: "sdiv",
    xllvm.URemOp: "urem",
    xllvm.SRemOp: "srem",
    xllvm.AndOp: "and",
    xllvm.OrOp: "or",
    xllvm.XOrOp: "xor",
    xllvm.ShlOp: "shl",
    xllvm.LShrOp: "lshr",
    xllvm.AShrOp: "ashr",
    xllvm.FAddOp: "fadd",
    xllvm.FSubOp: "fsub",
    xllvm.FMulOp: "fmul",
    xllvm.FDivOp: "fdiv",
    xllvm.FRemOp: "frem",
}
CASTS: Mapping[type[Operation], str] = {
    xllvm.TruncOp: "trunc",
    xllvm.ZExtOp: "zext",
    xllvm.SExtOp: "sext",
    xllvm.BitcastOp: "bitcast",
    xllvm.SIToFPOp: "sitofp",
    llvm.UIToFPOp: "uitofp",
    llvm.FPToSIOp: "fptosi",
    llvm.FPToUIOp: "fptoui",
    xllvm.FPExtOp: "fpext",
    xllvm.FPTruncOp: "fptrunc",
    xllvm.PtrToIntOp: "ptrtoint",
    xllvm.IntToPtrOp: "inttoptr",
}
INTRINSICS: Mapping[type[Operation], str] = {
    xllvm.FAbsOp: "fabs",
    xllvm.FCeilOp: "ceil",
    xllvm.FFloorOp: "floor",
    xllvm.FSqrtOp: "sqrt",
    xllvm.FExpOp: "exp",
    xllvm.FExp2Op: "exp2",
    xllvm.FLogOp: "log",
    xllvm.FLog2Op: "log2",
    xllvm.FSinOp: "sin",
    xllvm.FCosOp: "cos",
    xllvm.FPowOp: "pow",
    xllvm.FMAOp: "fma",
    xllvm.FCopySignOp: "copysign",
    xllvm.VectorFMaxOp: "maxnum",
    xllvm.VectorFMinOp: "minnum",
    llvm.TruncIntrinsicOp: "trunc",
    llvm.RoundIntrinsicOp: "round",
    llvm.RoundEvenIntrinsicOp: "roundeven",
    llvm.MaximumOp: "maximum",
    llvm.MinimumOp: "minimum",
    llvm.SMaxOp: "smax",
    llvm.SMinOp: "smin",
    llvm.UMaxOp: "umax",
    llvm.UMinOp: "umin",
}
"""Intrinsics whose name ends with the type of their result."""

FLOAT_NAMES: Mapping[type[Attribute], tuple[str, str]] = {
    BFloat16Type: ("bfloat", "bf16"),
    Float16Type: ("half", "f16"),
    Float32Type: ("float", "f32"),
    Float64Type: ("double", "f64"),
}
"""A float type's name in LLVM IR, and in the name of an intrinsic."""

FUNCTION_FLAGS: Mapping[str, str] = {"no_inline": "noinline", "no_unwind": "nounwind", "optimize_none": "optnone"}


def print_llvm(module: ModuleOp, function_attributes: Sequence[str] = (), header: Sequence[str] = ()) -> str:
    """The LLVM IR text of ``module``.

    ``function_attributes`` are written as given, such as ``nounwind`` or ``"target-cpu"="x86-64-v4"``, on every
    definition; ``header`` are lines such as ``target triple = "..."``. Raises a CrosstileError at an operation or a
    type that LLVM IR does not have.
    """
    return ModuleText(function_attributes, header).print(module)


class ModuleText:
    """The state of printing one module: types met so far, declarations, attribute groups."""

    def __init__(self, function_attributes: Sequence[str], header: Sequence[str]):
        self.function_attributes = tuple(function_attributes)
        self.header = header
        self.types: dict[Attribute, str] = {}
        self.type_suffixes: dict[Attribute, str] = {}
        self.intrinsics: dict[str, str] = {}
        self.attribute_groups: dict[tuple[str, ...], int] = {}
        self.metadata: list[str] = []

    def print(self, module: ModuleOp) -> str:
        """The whole text."""
        parts = list(self.header)
        bodies: list[str] = []
        for op in module.ops:
            if isinstance(op, xllvm.FuncOp):
                bodies.append(FunctionText(self, op).print())
            elif isinstance(op, xllvm.GlobalOp):
                bodies.append(self.global_text(op))
            else:
                raise op_error(op, f"'{op.name}' has no LLVM IR; at this level a module holds llvm.func and globals")
        parts += [*bodies, *self.intrinsics.values()]
        parts += [f"attributes #{number} = {{ {' '.join(group)} }}" for group, number in self.attribute_groups.items()]
        parts += [f"!{number} = {node}" for number, node in enumerate(self.metadata)]
        return "\n".join(parts) + "\n"

    def one_metadata(self) -> str:
        """The node that marks an access as non-temporal: the number 1."""
        if not self.metadata:
            self.metadata.append("!{i32 1}")
        return "!0"

    def type(self, type_: Attribute) -> str:
        """The name of a type in LLVM IR."""
        text = self.types.get(type_)
        if text is None:
            text = self.types[type_] = self._type(type_)
        return text

    def _type(self, type_: Attribute) -> str:
        if (names := FLOAT_NAMES.get(type(type_))) is not None:
            return names[0]
        if isinstance(type_, IntegerType):
            return f"i{type_.bitwidth}"
        if isa(type_, VectorType):
            return f"<{type_.get_shape()[0]} x {self.type(type_.element_type)}>"
        if isinstance(type_, xllvm.LLVMPointerType):
            space = type_.addr_space
            return f"ptr addrspace({space.data})" if isinstance(space, IntAttr) and space.data else "ptr"
        if isinstance(type_, llvm.X86AmxType):
            return "x86_amx"
        if isinstance(type_, xllvm.LLVMVoidType):
            return "void"
        if isinstance(type_, xllvm.LLVMArrayType):
            return f"[{type_.size.data} x {self.type(type_.type)}]"
        if isinstance(type_, xllvm.LLVMStructType):
            return "{ " + ", ".join(self.type(field) for field in type_.types) + " }"
        raise CrosstileError(f"type {type_} has no LLVM IR")

    def suffix(self, type_: Attribute) -> str:
        """The name of a type as part of an intrinsic's name."""
        text = self.type_suffixes.get(type_)
        if text is None:
            text = self.type_suffixes[type_] = self._suffix(type_)
        return text

    def _suffix(self, type_: Attribute) -> str:
        if (names := FLOAT_NAMES.get(type(type_))) is not None:
            return names[1]
        if isa(type_, VectorType):
            return f"v{type_.get_shape()[0]}{self.suffix(type_.element_type)}"
        if isinstance(type_, xllvm.LLVMPointerType):
            space = type_.addr_space
            return f"p{space.data if isinstance(space, IntAttr) else 0}"
        return self.type(type_)

    def declare_intrinsic(self, name: str, result: str, arguments: Iterable[str]) -> None:
        """Declare an intrinsic of these types once."""
        if name not in self.intrinsics:
            self.intrinsics[name] = f"declare {result} @{name}({', '.join(arguments)})"

    def attribute_group(self, attributes: Sequence[str]) -> str:
        """`` #n`` for the group of these attributes; nothing for none."""
        if not attributes:
            return ""
        return f" #{self.attribute_groups.setdefault(tuple(attributes), len(self.attribute_groups))}"

    def global_text(self, op: xllvm.GlobalOp) -> str:
        """A global variable or constant; an array of numbers is written as its bytes."""
        kind = "constant" if op.constant is not None else "global"
        linkage = op.linkage.linkage.data
        prefix = "" if linkage == "external" and op.value is not None else linkage + " "
        alignment = f", align {op.alignment.value.data}" if op.alignment is not None else ""
        name = symbol(op.sym_name.data)
        if op.value is None:
            return f"{name} = {prefix}{kind} {self.type(op.global_type)}{alignment}"
        data = global_bytes(op)
        return f'{name} = {prefix}{kind} [{len(data)} x i8] c"{string_bytes(data)}"{alignment}'


def global_bytes(op: xllvm.GlobalOp) -> bytes:
    """The memory image of a global's initial value, little-endian."""
    if isa(op.value, DenseIntOrFPElementsAttr):
        return op.value.data.data
    if isinstance(op.value, StringAttr):
        return op.value.data.encode()
    raise op_error(op, f"the initial value {op.value} of a global is neither dense numbers nor a string")


class FunctionText:
    """The state of printing one function: names of values and blocks."""

    def __init__(self, module: ModuleText, function: xllvm.FuncOp):
        self.module = module
        self.function = function
        self.type = module.type
        self.suffix = module.suffix
        self.declare_intrinsic = module.declare_intrinsic
        self.one_metadata = module.one_metadata
        self.values: dict[SSAValue, str] = {}
        self.labels: dict[Block, str] = {}
        self.used: dict[str, int] = {}
        self.incoming: dict[Block, list[tuple[str, Sequence[SSAValue]]]] = {}
        self.lines: list[str] = []

    def print(self) -> str:
        """The definition or declaration."""
        function = self.function
        blocks = list(function.body.blocks)
        output = self.type(function.function_type.output)
        name = symbol(function.sym_name.data)
        if not blocks:
            inputs = [self.type(type_) for type_ in function.function_type.inputs]
            return f"declare {output} {name}({', '.join(inputs)}){self.module.attribute_group(self.own_attributes())}"
        self.name_everything(blocks)
        attributes = [*self.own_attributes(), *self.module.function_attributes]
        linkage = function.linkage.linkage.data
        prefix = "" if linkage == "external" else linkage + " "
        group = self.module.attribute_group(attributes)
        self.lines.append(f"define {prefix}{output} {name}({self.parameters(blocks[0])}){group} {{")
        for block in blocks:
            self.print_block(block, blocks[0])
        return "\n".join([*self.lines, "}"])

    def own_attributes(self) -> list[str]:
        """The function attributes that the operation carries; xDSL's parser leaves them among the discardable ones."""
        carried = {**self.function.attributes, **self.function.properties}
        attributes = [word for name, word in FUNCTION_FLAGS.items() if name in carried]
        passthrough = carried.get("passthrough")
        for item in passthrough.data if isa(passthrough, ArrayAttr[Attribute]) else ():
            if isinstance(item, StringAttr):
                attributes.append(item.data)
            elif isa(item, ArrayAttr[StringAttr]):
                key, value = (part.data for part in item)
                attributes.append(f'"{key}"="{value}"')
        return attributes

    def parameters(self, entry: Block) -> str:
        """The parameter list, with the attributes of the arguments."""
        attributes = self.function.arg_attrs.data if self.function.arg_attrs is not None else ()
        parameters: list[str] = []
        for number, argument in enumerate(entry.args):
            words = [self.type(argument.type)]
            if number < len(attributes):
                words += argument_words(attributes[number])
            parameters.append(" ".join([*words, self.values[argument]]))
        return ", ".join(parameters)

    # Names

    def name_everything(self, blocks: Sequence[Block]) -> None:
        """Name all values and blocks, and note for each block where it is entered from with what."""
        for number, block in enumerate(blocks):
            self.labels[block] = self.new_name("block" if number else "entry")
            for argument in block.args:
                self.values[argument] = "%" + self.new_name(argument.name_hint or "v")
            for op in block.ops:
                if isinstance(op, xllvm.ConstantOp):
                    self.values[op.result] = self.constant(op)
                elif type(op) in NAMED_CONSTANTS:
                    self.values[op.results[0]] = NAMED_CONSTANTS[type(op)]
                else:
                    for result in op.results:
                        self.values[result] = "%" + self.new_name(result.name_hint or "v")
        for block in blocks:
            for successor, arguments in outgoing(block):
                self.incoming.setdefault(successor, []).append((self.labels[block], arguments))

    def new_name(self, hint: str) -> str:
        """``hint``, or ``hint.n``: a name that no other value or block of the function has."""
        count = self.used.get(hint)
        if count is None:
            self.used[hint] = 1
            return hint
        while f"{hint}.{count}" in self.used:
            count += 1
        self.used[hint] = count + 1
        self.used[f"{hint}.{count}"] = 1
        return f"{hint}.{count}"

    def constant(self, op: xllvm.ConstantOp) -> str:
        """A constant as it is written where it is used."""
        value = op.value
        if isa(value, IntegerAttr) and isinstance(value.type, IntegerType):
            return element_text(value.value.data, value.type)
        if isa(value, FloatAttr):
            return element_text(value.value.data, value.type)
        if isa(value, DenseIntOrFPElementsAttr):
            element = value.get_element_type()
            values = value.get_values()
            text = [element_text(item, element) for item in values]
            if len(set(text)) == 1:
                return f"splat ({self.type(element)} {text[0]})"
            return "<" + ", ".join(f"{self.type(element)} {item}" for item in text) + ">"
        raise op_error(op, f"a constant of type {op.result.type} has no LLVM IR")

    # Operations

    def print_block(self, block: Block, entry: Block) -> None:
        """A label, phis for the arguments, and the operations."""
        self.lines.append(f"{self.labels[block]}:")
        if block is not entry:
            edges = self.incoming.get(block, ())
            for number, argument in enumerate(block.args):
                pairs = ", ".join(f"[ {self.values[values[number]]}, %{label} ]" for label, values in edges)
                self.lines.append(f"  {self.values[argument]} = phi {self.type(argument.type)} {pairs}")
        for op in block.ops:
            if isinstance(op, xllvm.ConstantOp) or type(op) in NAMED_CONSTANTS:
                continue
            self.lines.append(self.operation(op))

    def operation(self, op: Operation) -> str:
        """One instruction."""
        kind = type(op)
        if (word := BINARY.get(kind)) is not None:
            lhs, rhs = op.operands
            return (
                f"  {self.values[op.results[0]]} = {word}{flags(op)} {self.type(lhs.type)} "
                f"{self.values[lhs]}, {self.values[rhs]}"
            )
        if (word := INTRINSICS.get(kind)) is not None:
            name = f"llvm.{word}.{self.suffix(op.results[0].type)}"
            return self.call_intrinsic(name, op.results[0], op.operands, flags(op))
        if (word := CASTS.get(kind)) is not None:
            operand, result = op.operands[0], op.results[0]
            return f"  {self.values[result]} = {word}{flags(op)} {self.typed(operand)} to {self.type(result.type)}"
        printer = PRINTERS.get(kind)
        if printer is None:
            raise op_error(op, f"'{op.name}' has no LLVM IR")
        return printer(self, op)

    def typed(self, value: SSAValue) -> str:
        """``value`` preceded by its type."""
        return f"{self.type(value.type)} {self.values[value]}"

    def call_intrinsic(self, name: str, result: SSAValue | None, operands: Sequence[SSAValue], fast: str = "") -> str:
        """A call of an intrinsic, which is declared."""
        types = [self.type(operand.type) for operand in operands]
        result_type = "void" if result is None else self.type(result.type)
        self.declare_intrinsic(name, result_type, types)
        arguments = ", ".join(self.typed(operand) for operand in operands)
        target = "" if result is None else f"{self.values[result]} = "
        return f"  {target}call{fast} {result_type} @{name}({arguments})"
