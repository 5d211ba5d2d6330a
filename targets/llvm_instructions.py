"""The text of each ``llvm`` operation whose form is its own: memory, calls, control flow, vectors, comparisons.

A printer takes the function being printed and the operation and returns one line. Operations that share a form
(arithmetic, casts, intrinsics) are rows of tables in ``llvm_text``. ::

    %x = llvm.load %p {alignment = 4 : i64} : !llvm.ptr -> vector<16xf32>
    ==>  %x = load <16 x float>, ptr %p, align 4
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xdsl.dialects import llvm as xllvm
from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import llvm
from crosstile.ir.diagnostics import op_error

if TYPE_CHECKING:
    from crosstile.targets.llvm_text import FunctionText

ICMP = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")
FCMP = (
    *("false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord"),
    *("ueq", "ugt", "uge", "ult", "ule", "une", "uno", "true"),
)
ARGUMENT_FLAGS: Mapping[str, str] = {
    "llvm.noalias": "noalias",
    "llvm.nonnull": "nonnull",
    "llvm.noundef": "noundef",
    "llvm.readonly": "readonly",
    "llvm.writeonly": "writeonly",
    "llvm.nocapture": "captures(none)",
}
ARGUMENT_NUMBERS: Mapping[str, str] = {"llvm.align": "align {}", "llvm.dereferenceable": "dereferenceable({})"}

NAMED_CONSTANTS: Mapping[type[Operation], str] = {
    llvm.PoisonOp: "poison",
    xllvm.UndefOp: "undef",
    xllvm.ZeroOp: "zeroinitializer",
}
"""Operations without operands that LLVM IR writes as a word where their result is used."""

_ORDERED_FLAGS = ("reassoc", "nnan", "ninf", "nsz", "arcp", "contract", "afn")
_OVERFLOW = {0: "", 1: " nsw", 2: " nuw", 3: " nuw nsw"}


def symbol(name: str) -> str:
    """``@name``, quoted where LLVM IR needs it."""
    plain = all(character.isalnum() or character in "._$-" for character in name) and not name[:1].isdigit()
    return f"@{name}" if plain else f'@"{name}"'


def fastmath_words(attribute: Any) -> str:
    """The fastmath flags, each with a blank before it."""
    if not attribute.data:
        return ""
    flags = {str(flag) for flag in attribute.data}
    return (
        " fast" if flags.issuperset(_ORDERED_FLAGS) else "".join(f" {flag}" for flag in _ORDERED_FLAGS if flag in flags)
    )


def flags(op: Operation) -> str:
    """The flags of an arithmetic operation or a conversion, each with a blank before it."""
    properties = op.properties
    if (fast := properties.get("fastmathFlags")) is not None:
        return fastmath_words(fast)
    overflow = properties.get("overflowFlags")
    if isa(overflow, IntegerAttr):
        return _OVERFLOW[overflow.value.data]
    if isinstance(overflow, xllvm.OverflowAttr):
        return _OVERFLOW[overflow.to_int()]
    for name, word in (("isExact", " exact"), ("isDisjoint", " disjoint"), ("nonNeg", " nneg")):
        if name in properties:
            return word
    return ""


def argument_words(attributes: DictionaryAttr) -> list[str]:
    """The attributes of a parameter; names that LLVM does not have belong to other levels and are left out."""
    words: list[str] = []
    for name, value in attributes.data.items():
        if name in ARGUMENT_FLAGS:
            words.append(ARGUMENT_FLAGS[name])
        elif name in ARGUMENT_NUMBERS and isa(value, IntegerAttr):
            words.append(ARGUMENT_NUMBERS[name].format(value.value.data))
    return words


def outgoing(block: Block) -> list[tuple[Block, Sequence[SSAValue]]]:
    """The blocks that ``block`` branches to, with the values for their arguments; none twice with different values."""
    last = block.last_op
    if isinstance(last, xllvm.BrOp):
        return [(last.successor, last.arguments)]
    if isinstance(last, xllvm.CondBrOp):
        edges = [(last.then_block, last.then_arguments), (last.else_block, last.else_arguments)]
        if last.then_block is last.else_block and tuple(last.then_arguments) != tuple(last.else_arguments):
            raise op_error(last, "enters one block with different values; select the values before and use 'llvm.br'")
        return [(target, tuple(values)) for target, values in edges]
    return []


def alignment(op: Any) -> str:
    """``, align n`` if the operation says so."""
    return f", align {op.alignment.value.data}" if op.alignment is not None else ""


def _load(text: FunctionText, op: xllvm.LoadOp) -> str:
    _require_plain(op)
    result = op.dereferenced_value
    return f"  {text.values[result]} = load {text.type(result.type)}, {text.typed(op.ptr)}{alignment(op)}"


def _store(text: FunctionText, op: xllvm.StoreOp) -> str:
    _require_plain(op)
    volatile = " volatile" if op.volatile_ is not None else ""
    hint = "" if op.nontemporal is None else f", !nontemporal {text.one_metadata()}"
    return f"  store{volatile} {text.typed(op.value)}, {text.typed(op.ptr)}{alignment(op)}{hint}"


def _require_plain(op: xllvm.LoadOp | xllvm.StoreOp) -> None:
    if op.ordering is not None and op.ordering.value.data != 0:
        raise op_error(op, "atomic loads and stores have no text here; only plain ones do")


def _gep(text: FunctionText, op: xllvm.GEPOp) -> str:
    dynamic = iter(op.ssa_indices)
    indices = [
        text.typed(next(dynamic)) if index == xllvm.GEP_USE_SSA_VAL else f"i32 {index}"
        for index in op.rawConstantIndices.iter_values()
    ]
    inbounds = " inbounds" if op.inbounds is not None else ""
    return (
        f"  {text.values[op.result]} = getelementptr{inbounds} {text.type(op.elem_type)}, {text.typed(op.ptr)}, "
        f"{', '.join(indices)}"
    )


def _alloca(text: FunctionText, op: xllvm.AllocaOp) -> str:
    return f"  {text.values[op.res]} = alloca {text.type(op.elem_type)}, {text.typed(op.size)}{alignment(op)}"


def _icmp(text: FunctionText, op: xllvm.ICmpOp) -> str:
    word = ICMP[op.predicate.value.data]
    return f"  {text.values[op.res]} = icmp {word} {text.typed(op.lhs)}, {text.values[op.rhs]}"


def _fcmp(text: FunctionText, op: xllvm.FCmpOp) -> str:
    word = FCMP[op.predicate.value.data]
    return f"  {text.values[op.res]} = fcmp{flags(op)} {word} {text.typed(op.lhs)}, {text.values[op.rhs]}"


def _fneg(text: FunctionText, op: xllvm.FNegOp) -> str:
    return f"  {text.values[op.res]} = fneg{flags(op)} {text.typed(op.arg)}"


def _freeze(text: FunctionText, op: llvm.FreezeOp) -> str:
    return f"  {text.values[op.res]} = freeze {text.typed(op.val)}"


def _select(text: FunctionText, op: xllvm.SelectOp) -> str:
    operands = ", ".join(text.typed(operand) for operand in op.operands)
    return f"  {text.values[op.res]} = select {operands}"


def _br(text: FunctionText, op: xllvm.BrOp) -> str:
    return f"  br label %{text.labels[op.successor]}"


def _cond_br(text: FunctionText, op: xllvm.CondBrOp) -> str:
    then_label, else_label = text.labels[op.then_block], text.labels[op.else_block]
    return f"  br {text.typed(op.cond)}, label %{then_label}, label %{else_label}"


def _return(text: FunctionText, op: xllvm.ReturnOp) -> str:
    return "  ret void" if op.arg is None else f"  ret {text.typed(op.arg)}"


def _unreachable(_text: FunctionText, _op: xllvm.UnreachableOp) -> str:
    return "  unreachable"


def _call(text: FunctionText, op: xllvm.CallOp) -> str:
    if op.callee is None:
        callee, arguments = text.values[op.args[0]], op.args[1:]
    else:
        callee, arguments = symbol(op.callee.root_reference.data), op.args
    result = "void" if op.returned is None else text.type(op.returned.type)
    if isinstance(op.var_callee_type, xllvm.LLVMFunctionType) and op.var_callee_type.is_variadic:
        inputs = [*(text.type(type_) for type_ in op.var_callee_type.inputs), "..."]
        result = f"{result} ({', '.join(inputs)})"
    target = "" if op.returned is None else f"{text.values[op.returned]} = "
    operands = ", ".join(text.typed(argument) for argument in arguments)
    return f"  {target}call{fastmath_words(op.fastmathFlags)} {result} {callee}({operands})"


def _call_intrinsic(text: FunctionText, op: xllvm.CallIntrinsicOp) -> str:
    return text.call_intrinsic(op.intrin.data, op.ress, op.args, fastmath_words(op.fastmathFlags))


def _inline_asm(text: FunctionText, op: xllvm.InlineAsmOp) -> str:
    words = ["sideeffect"] if op.has_side_effects is not None else []
    words += ["alignstack"] if op.is_align_stack is not None else []
    words += ["inteldialect"] if op.asm_dialect is not None and op.asm_dialect.value.data == 1 else []
    result = "void" if op.res is None else text.type(op.res.type)
    target = "" if op.res is None else f"{text.values[op.res]} = "
    operands = ", ".join(text.typed(operand) for operand in op.operands_)
    modifiers = "".join(f" {word}" for word in words)
    template, constraints = op.asm_string.data.replace('"', "\\22"), op.constraints.data
    return f'  {target}call {result} asm{modifiers} "{template}", "{constraints}"({operands})'


def _address_of(text: FunctionText, op: xllvm.AddressOfOp) -> str:
    name = symbol(op.global_name.root_reference.data)
    return f"  {text.values[op.result]} = getelementptr i8, {text.type(op.result.type)} {name}, i32 0"


def _extract_element(text: FunctionText, op: llvm.ExtractElementOp) -> str:
    return f"  {text.values[op.res]} = extractelement {text.typed(op.vector)}, {text.typed(op.position)}"


def _insert_element(text: FunctionText, op: xllvm.InsertElementOp) -> str:
    operands = ", ".join(text.typed(operand) for operand in (op.vector, op.value, op.index))
    return f"  {text.values[op.res]} = insertelement {operands}"


def _shuffle(text: FunctionText, op: xllvm.ShuffleVectorOp) -> str:
    mask: Sequence[int] = tuple(op.mask.iter_values())
    lanes = ", ".join("i32 poison" if lane < 0 else f"i32 {lane}" for lane in mask)
    written = f"<{len(mask)} x i32> " + ("zeroinitializer" if not any(mask) else f"<{lanes}>")
    return f"  {text.values[op.res]} = shufflevector {text.typed(op.v1)}, {text.typed(op.v2)}, {written}"


def _extract_value(text: FunctionText, op: xllvm.ExtractValueOp) -> str:
    return f"  {text.values[op.res]} = extractvalue {text.typed(op.container)}, {_positions(op)}"


def _insert_value(text: FunctionText, op: xllvm.InsertValueOp) -> str:
    return f"  {text.values[op.res]} = insertvalue {text.typed(op.container)}, {text.typed(op.value)}, {_positions(op)}"


def _positions(op: xllvm.ExtractValueOp | xllvm.InsertValueOp) -> str:
    return ", ".join(str(position) for position in op.position.iter_values())


def _masked_load(text: FunctionText, op: llvm.MaskedLoadOp) -> str:
    result: SSAValue[Attribute] = op.res
    name = f"llvm.masked.load.{text.suffix(result.type)}.{text.suffix(op.data.type)}"
    data, mask, pass_thru = (text.type(operand.type) for operand in op.operands)
    text.declare_intrinsic(name, text.type(result.type), [data, "i32 immarg", mask, pass_thru])
    return (
        f"  {text.values[result]} = call {text.type(result.type)} @{name}({text.typed(op.data)}, "
        f"i32 {op.alignment.value.data}, {text.typed(op.mask)}, {text.typed(op.pass_thru)})"
    )


def _masked_store(text: FunctionText, op: xllvm.MaskedStoreOp) -> str:
    name = f"llvm.masked.store.{text.suffix(op.value.type)}.{text.suffix(op.data.type)}"
    value, data, mask = (text.type(operand.type) for operand in op.operands)
    text.declare_intrinsic(name, "void", [value, data, "i32 immarg", mask])
    return (
        f"  call void @{name}({text.typed(op.value)}, {text.typed(op.data)}, i32 {op.alignment.value.data}, "
        f"{text.typed(op.mask)})"
    )


PRINTERS: Mapping[type[Operation], Callable[[Any, Any], str]] = {
    xllvm.LoadOp: _load,
    xllvm.StoreOp: _store,
    xllvm.GEPOp: _gep,
    xllvm.AllocaOp: _alloca,
    xllvm.ICmpOp: _icmp,
    llvm.FCmpOp: _fcmp,
    xllvm.FCmpOp: _fcmp,
    xllvm.FNegOp: _fneg,
    llvm.SelectOp: _select,
    xllvm.SelectOp: _select,
    xllvm.BrOp: _br,
    xllvm.CondBrOp: _cond_br,
    xllvm.ReturnOp: _return,
    xllvm.UnreachableOp: _unreachable,
    xllvm.CallOp: _call,
    xllvm.CallIntrinsicOp: _call_intrinsic,
    xllvm.InlineAsmOp: _inline_asm,
    xllvm.AddressOfOp: _address_of,
    llvm.FreezeOp: _freeze,
    llvm.ExtractElementOp: _extract_element,
    xllvm.InsertElementOp: _insert_element,
    xllvm.ShuffleVectorOp: _shuffle,
    xllvm.ExtractValueOp: _extract_value,
    xllvm.InsertValueOp: _insert_value,
    llvm.MaskedLoadOp: _masked_load,
    llvm.MaskedStoreOp: _masked_store,
    xllvm.MaskedStoreOp: _masked_store,
}
