"""Rules for ``llvm`` and ``nvvm`` operations: memory, structs, copies, barriers, products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xdsl.dialects import llvm, vector
from xdsl.dialects.builtin import VectorType
from xdsl.dialects.llvm import GEP_USE_SSA_VAL, LLVMPointerType, LLVMStructType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects.nvvm import clusters, copies, matrices, synchronisation, warpgroup
from crosstile.dialects.nvvm.special import SPECIAL
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.printing.bytes import BYTES, is_bytes, join, split
from crosstile.targets.nvidia.printing.control import may_overwrite
from crosstile.targets.nvidia.printing.registers import BITS, Text, members, register_class

Rule = Callable[[Any, Text], None]
SPACES = {0: "", 1: ".global", 3: ".shared", 4: ".const"}


def space_of(pointer: SSAValue) -> str:
    """The state space of a pointer, as accesses write it."""
    assert isinstance(pointer.type, LLVMPointerType)
    return SPACES[getattr(pointer.type.addr_space, "data", 0)]


def group(registers: Sequence[str]) -> str:
    """Registers as a vector operand."""
    return "{" + ", ".join(registers) + "}"


# llvm


def print_gep(op: llvm.GEPOp, text: Text) -> None:
    """A constant distance goes to the accesses, another one is added."""
    register, offset = text.pointer(op.ptr)
    (distance,) = op.rawConstantIndices.iter_values()
    if distance != GEP_USE_SSA_VAL:
        text.alias_pointer(op.result, register, offset + distance)
        return
    moved = text.register(register_class(op.result.type))
    kind = f"s{BITS[register_class(op.result.type)]}"
    text.line(f"add.{kind} {moved}, {register}, {text.operand(op.ssa_indices[0])}")
    text.alias_pointer(op.result, moved, offset)


def access_types(type_: Attribute) -> tuple[int, str]:
    """How many registers an access moves, and their class: neighbours of 16 bits go as words of 32."""
    parts = members(type_)
    kind = register_class(parts[0])
    if is_bytes(type_):
        return (1, "h") if len(parts) == 2 else (len(parts) // 4, "r")
    if kind == "h" and len(parts) > 1:
        return len(parts) // 2, "r"
    return len(parts), kind


def access_name(count: int, kind: str) -> str:
    """The end of an access's name."""
    return (f".v{count}" if count > 1 else "") + f".b{BITS[kind]}"


def print_load(op: llvm.LoadOp, text: Text) -> None:
    """One access; words are taken apart."""
    result = op.dereferenced_value
    count, kind = access_types(result.type)
    found = text.define(result)
    words = [text.register(kind) for _ in range(count)] if len(found) != count else list(found)
    narrow = result.type in BYTES
    name = ".b8" if narrow else access_name(count, kind)
    operand = group(words) if count > 1 else words[0]
    space = space_of(op.ptr)
    cached = ".nc" if space == ".global" and "invariant" in op.attributes else ""
    text.line(f"ld{space}{cached}{name} {operand}, {text.address(op.ptr)}")
    if is_bytes(result.type):
        split(words, found, text)
    elif words != list(found):
        for number, word in enumerate(words):
            text.line(f"mov.b32 {group(found[2 * number : 2 * number + 2])}, {word}")


def print_store(op: llvm.StoreOp, text: Text) -> None:
    """One access; elements of 16 bits are put together first."""
    count, kind = access_types(op.value.type)
    given = list(text.registers(op.value))
    if len(given) != count:
        words = [text.register(kind) for _ in range(count)]
        if is_bytes(op.value.type):
            join(given, words, text)
        for number, word in enumerate(() if is_bytes(op.value.type) else words):
            text.line(f"mov.b32 {word}, {group(given[2 * number : 2 * number + 2])}")
        given = words
    narrow = op.value.type in BYTES
    name = ".b8" if narrow else access_name(count, kind)
    operand = group(given) if count > 1 else given[0]
    text.line(f"st{space_of(op.ptr)}{name} {text.address(op.ptr)}, {operand}")


def print_undef(op: llvm.UndefOp, text: Text) -> None:
    """Registers that nobody reads before they are replaced."""
    text.alias(op.res, ("",) * len(members(op.res.type)))


def print_insert_value(op: llvm.InsertValueOp, text: Text) -> None:
    """A struct with other registers in one place."""
    (place,) = op.position.iter_values()
    registers = list(text.registers(op.container))
    registers[place] = text.get(op.value)
    text.alias(op.res, tuple(registers))


def print_extract_value(op: llvm.ExtractValueOp, text: Text) -> None:
    """One of a struct's registers."""
    (place,) = op.position.iter_values()
    text.alias(op.res, (text.registers(op.container)[place],))


def print_insert_element(op: llvm.InsertElementOp, text: Text) -> None:
    """A vector with another register in one place."""
    from crosstile.targets.nvidia.printing.scalars import is_half_of_word

    constant = text.constant(op.index)
    assert constant is not None
    registers = list(text.registers(op.vector))
    registers[int(constant)] = "" if is_half_of_word(op.value) else text.get(op.value)
    text.alias(op.res, tuple(registers))


def print_extract(op: vector.ExtractOp, text: Text) -> None:
    """One of a vector's registers."""
    (place,) = op.static_position.iter_values()
    text.alias(op.result, (text.registers(op.vector)[place],))


def print_address_of(op: llvm.AddressOfOp, text: Text) -> None:
    """The address of a symbol in shared memory."""
    register = text.one(op.result)
    text.line(f"mov.u32 {register}, {op.global_name.root_reference.data}")


def print_alias(op: Operation, text: Text) -> None:
    """The same register under another type."""
    text.alias(op.results[0], text.registers(op.operands[0]))


# Threads and barriers


def print_special(op: Operation, text: Text) -> None:
    """A special register."""
    name = op.name.removeprefix("nvvm.read.ptx.sreg.").replace("cluster.", "cluster_")
    text.line(f"mov.u32 {text.one(op.results[0])}, %{name}")


def print_barrier(op: synchronisation.BarrierOp, text: Text) -> None:
    """Some threads of the block meet."""
    text.line(f"bar.sync {text.operand(op.barrier_id)}, {text.operand(op.number_of_threads)}")


def print_warp_sync(op: synchronisation.WarpSyncOp, text: Text) -> None:
    """The lanes of a warp meet."""
    text.line(f"bar.warp.sync {text.operand(op.mask)}")


def predicate(value: SSAValue | None, text: Text) -> str:
    """What stands before an instruction that runs under a condition."""
    return "" if value is None else f"@{text.get(value)} "


def print_mbarrier_init(op: synchronisation.MbarrierInitOp, text: Text) -> None:
    """A barrier in memory."""
    guard = predicate(op.predicate, text)
    text.line(f"{guard}mbarrier.init.shared.b64 {text.address(op.addr)}, {text.operand(op.count)}")


def print_mbarrier_arrive(op: synchronisation.MbarrierArriveOp, text: Text) -> None:
    """An arrival."""
    text.line(f"mbarrier.arrive.shared.b64 {text.one(op.state)}, {text.address(op.addr)}")


def print_arrive_remote(op: clusters.MbarrierArriveRemoteOp, text: Text) -> None:
    """An arrival at a barrier of any block of the cluster."""
    text.line(f"mbarrier.arrive.shared::cluster.b64 _, {text.address(op.addr)}")


def print_mapa(op: clusters.MapaOp, text: Text) -> None:
    """The same place in another block."""
    address, offset = text.pointer(op.a)
    if offset:
        moved = text.register("r")
        text.line(f"add.s32 {moved}, {address}, {offset}")
        address = moved
    text.line(f"mapa.shared::cluster.u32 {text.one(op.res)}, {address}, {text.operand(op.b)}")


def print_cluster_barrier(op: Operation, text: Text) -> None:
    """Half of a barrier of the cluster."""
    aligned = ".aligned" if "aligned" in op.properties else ""
    text.line(f"barrier.{op.name.removeprefix('nvvm.')}{aligned}")


def print_expect_tx(op: synchronisation.MbarrierArriveExpectTxOp, text: Text) -> None:
    """An arrival that announces bytes."""
    guard = predicate(op.predicate, text)
    text.line(f"{guard}mbarrier.arrive.expect_tx.shared.b64 _, {text.address(op.addr)}, {text.operand(op.txcount)}")


def print_try_wait(op: synchronisation.MbarrierTryWaitOp, text: Text) -> None:
    """A loop around one instruction that waits for a while."""
    label, done = text.new_label("wait"), text.register("p")
    address, phase = text.address(op.addr), text.get(op.phase)
    ticks = text.get(op.ticks)
    text.label(label)
    text.forget_location()
    text.locate(op)
    text.line(f"mbarrier.try_wait.parity.shared.b64 {done}, {address}, {phase}, {ticks}")
    text.line(f"@!{done} bra {label}")


def print_shuffle(op: synchronisation.ShuffleOp, text: Text) -> None:
    """The value of another lane."""
    to, source = text.one(op.res), text.get(op.val)
    offset, clamp, mask = (text.operand(value) for value in (op.offset, op.mask_and_clamp, op.thread_mask))
    text.line(f"shfl.sync.{op.kind.data}.b32 {to}, {source}, {offset}, {clamp}, {mask}")


def print_setmaxregister(op: synchronisation.SetMaxRegisterOp, text: Text) -> None:
    """Registers from or to the pool."""
    action = {"increase": "inc", "decrease": "dec"}[op.action.data]
    text.line(f"setmaxnreg.{action}.sync.aligned.u32 {op.reg_count.value.data}")


def print_elect(op: synchronisation.ElectSyncOp, text: Text) -> None:
    """One lane of the warp."""
    text.line(f"elect.sync _|{text.one(op.pred)}, -1")


# Copies


def print_cp_async(op: copies.CpAsyncOp, text: Text) -> None:
    """A few bytes, the rest zeros."""
    valid = "" if op.cp_size is None else f", {text.operand(op.cp_size)}"
    size, to, source = op.size.value.data, text.address(op.dst), text.address(op.src)
    text.line(f"cp.async.{op.modifier.data}.shared.global {to}, {source}, {size}{valid}")


def print_tensor_copy(op: copies.TensorCopyOp, text: Text) -> None:
    """A box of a tensor."""
    guard = predicate(op.predicate, text)
    coordinates = group([text.get(value) for value in op.coordinates])
    text.line(
        f"{guard}cp.async.bulk.tensor.{len(op.coordinates)}d.shared::cluster.global.mbarrier::complete_tx::bytes"
        f"{'' if op.multicast_mask is None else '.multicast::cluster'} "
        f"{text.address(op.dst_mem)}, [{text.get(op.tma_descriptor)}, {coordinates}], {text.address(op.mbar)}"
        f"{'' if op.multicast_mask is None else f', {text.get(op.multicast_mask)}'}"
    )


def print_tensor_store(op: copies.TensorStoreOp, text: Text) -> None:
    """A box of a tensor, from shared memory."""
    guard = predicate(op.predicate, text)
    coordinates = group([text.get(value) for value in op.coordinates])
    text.line(
        f"{guard}cp.async.bulk.tensor.{len(op.coordinates)}d.global.shared::cta.bulk_group "
        f"[{text.get(op.tma_descriptor)}, {coordinates}], {text.address(op.src_mem)}"
    )


def print_bulk_wait(op: copies.BulkWaitGroupOp, text: Text) -> None:
    """A wait for bulk copies: for their reads, or for all of them."""
    text.line(f"cp.async.bulk.wait_group{'' if op.read is None else '.read'} {op.group.value.data}")


def print_copies_arrive(op: copies.CpAsyncMbarrierArriveOp, text: Text) -> None:
    """An arrival when copies have arrived."""
    kind = ".noinc" if op.noinc.value.data else ""
    text.line(f"cp.async.mbarrier.arrive{kind}.shared.b64 {text.address(op.addr)}")


def print_prefetch(op: copies.PrefetchTensorMapOp, text: Text) -> None:
    """A descriptor into the cache."""
    text.line(f"prefetch.tensormap [{text.get(op.tma_descriptor)}]")


# Products


def in_place(op: Operation, accumulator: Sequence[SSAValue], result: SSAValue, text: Text) -> tuple[str, ...]:
    """Registers that hold the accumulator before and the result after: the accumulator's own, or copies of them."""
    if (prepared := text.prepared.pop(op, None)) is not None:
        text.alias(result, prepared)
        return prepared
    given = [register for value in accumulator for register in text.registers(value)]
    if all(may_overwrite(value, op) for value in accumulator) and len(set(given)) == len(given):
        found = tuple(given)
    else:
        found = text.fresh(result.type)
        for to, source in zip(found, given, strict=True):
            text.move(to, source)
    text.alias(result, found)
    return found


def print_mma(op: matrices.MmaSyncOp, text: Text) -> None:
    """A product of a warp."""
    m, n, k = op.shape.data
    factors = [
        group([register for value in values for register in text.registers(value)])
        for values in (op.operand_a, op.operand_b)
    ]
    accumulator_type = _accumulator_type(op.operand_c[0].type)
    types = f"{accumulator_type}.{_type(op.type_a)}.{_type(op.type_b)}.{accumulator_type}"
    accumulator = group(in_place(op, op.operand_c, op.res, text))
    layouts = f"{op.layout_a.data}.{op.layout_b.data}"
    text.line(
        f"mma.sync.aligned.m{m}n{n}k{k}.{layouts}.{types} {accumulator}, {factors[0]}, {factors[1]}, {accumulator}"
    )


def _accumulator_type(member: Attribute) -> str:
    """PTX's name of the element type of an accumulator with registers of type ``member``; pairs are of f16."""
    return "f16" if isa(member, VectorType) else {"f": "f32", "fd": "f64", "r": "s32"}[register_class(member)]


def _type(attribute: object) -> str:
    return str(getattr(attribute, "data", "f16"))


def print_ldmatrix(op: matrices.LdmatrixOp, text: Text) -> None:
    """Matrices from shared memory."""
    words = text.define(op.res)
    turned = ".trans" if op.layout.data == "col" else ""
    text.line(f"ldmatrix.sync.aligned.m8n8.x{len(words)}{turned}.shared.b16 {group(words)}, {text.address(op.ptr)}")


def print_stmatrix(op: matrices.StmatrixOp, text: Text) -> None:
    """Matrices to shared memory."""
    words = [text.get(value) for value in op.sources]
    turned = ".trans" if op.layout.data == "col" else ""
    text.line(f"stmatrix.sync.aligned.m8n8.x{len(words)}{turned}.shared.b16 {text.address(op.ptr)}, {group(words)}")


def print_permute(op: matrices.PermuteOp, text: Text) -> None:
    """Four bytes of two words."""
    operands = ", ".join(map(text.get, (op.lo, op.hi, op.selector)))
    text.line(f"prmt.b32 {text.one(op.res)}, {operands}")


def print_fence(op: warpgroup.WgmmaFenceOp, text: Text) -> None:
    """The fence, behind all copies into registers that the products up to the next commit write."""
    following, started = op.next_op, set[Operation]()
    while following is not None and not isinstance(following, warpgroup.WgmmaCommitOp):
        if isinstance(following, warpgroup.WgmmaOp):
            if following.inouts.owner not in started:
                text.prepared[following] = in_place(following, [following.inouts], following.results_, text)
            started.add(following)
        following = following.next_op
    text.line("wgmma.fence.sync.aligned")


def print_wgmma(op: warpgroup.WgmmaOp, text: Text) -> None:
    """A product of a warpgroup. Whether it adds is a predicate; types of 16 bits may be transposed."""
    m, n, k = op.shape.data
    left = group([text.get(value) for value in op.lhs]) if op.from_registers else text.get(op.lhs[0])
    right = text.get(op.rhs)
    accumulator = in_place(op, [op.inouts], op.results_, text)
    assert isinstance(op.results_.type, LLVMStructType)
    kind = _accumulator_type(op.results_.type.types.data[0])
    adds = text.register("p")
    text.line(f"setp.ne.b32 {adds}, {int(op.scale_d.data == 'one')}, 0")
    scales = "" if kind == "s32" else ", 1, 1"
    turned = ""
    if op.type_a.data in ("f16", "bf16"):
        turned = "" if op.from_registers else f", {int(op.layout_a.data == 'col')}"
        turned += f", {int(op.layout_b.data == 'row')}"
    elif op.layout_a.data != "row" or op.layout_b.data != "col":
        raise CrosstileError(f"factors of {op.type_a.data} have k contiguous in shared memory", op.location)
    text.line(
        f"wgmma.mma_async.sync.aligned.m{m}n{n}k{k}.{kind}.{op.type_a.data}.{op.type_b.data} "
        f"{group(accumulator)}, {left}, {right}, {adds}{scales}{turned}"
    )


def fixed(instruction: str) -> Rule:
    """The rule for an operation that is one instruction without operands."""

    def rule(op: Operation, text: Text) -> None:
        text.line(instruction)

    return rule


def counted(instruction: str) -> Rule:
    """The rule for an operation that is one instruction with a number."""

    def rule(op: copies.CountOp, text: Text) -> None:
        text.line(f"{instruction} {op.n.value.data}")

    return rule


INSTRUCTIONS: Mapping[str, Rule] = {
    "llvm.getelementptr": print_gep,
    "llvm.load": print_load,
    "llvm.store": print_store,
    "llvm.mlir.undef": print_undef,
    "llvm.insertvalue": print_insert_value,
    "llvm.extractvalue": print_extract_value,
    "llvm.insertelement": print_insert_element,
    "vector.extract": print_extract,
    "llvm.mlir.addressof": print_address_of,
    "llvm.ptrtoint": print_alias,
    "llvm.inttoptr": print_alias,
    **{op.name: print_special for op in (*SPECIAL, *clusters.CLUSTER_REGISTERS)},
    "nvvm.barrier0": fixed("bar.sync 0"),
    "nvvm.barrier": print_barrier,
    "nvvm.bar.warp.sync": print_warp_sync,
    "nvvm.mbarrier.init.shared": print_mbarrier_init,
    "nvvm.mbarrier.arrive.shared": print_mbarrier_arrive,
    "nvvm.mbarrier.arrive.expect_tx.shared": print_expect_tx,
    "nvvm.mbarrier.arrive": print_arrive_remote,
    "nvvm.mapa": print_mapa,
    "nvvm.cluster.arrive": print_cluster_barrier,
    "nvvm.cluster.arrive.relaxed": print_cluster_barrier,
    "nvvm.cluster.wait": print_cluster_barrier,
    "nvvm.mbarrier.try_wait.parity.shared": print_try_wait,
    "nvvm.fence.mbarrier.init": fixed("fence.mbarrier_init.release.cluster"),
    "nvvm.fence.proxy": fixed("fence.proxy.async.shared::cta"),
    "nvvm.setmaxregister": print_setmaxregister,
    "nvvm.shfl.sync": print_shuffle,
    "nvvm.elect.sync": print_elect,
    "nvvm.cp.async.shared.global": print_cp_async,
    "nvvm.cp.async.commit.group": fixed("cp.async.commit_group"),
    "nvvm.cp.async.wait.group": counted("cp.async.wait_group"),
    "nvvm.cp.async.mbarrier.arrive.shared": print_copies_arrive,
    "nvvm.cp.async.bulk.tensor.shared.cluster.global": print_tensor_copy,
    "nvvm.cp.async.bulk.tensor.global.shared.cta": print_tensor_store,
    "nvvm.cp.async.bulk.commit.group": fixed("cp.async.bulk.commit_group"),
    "nvvm.cp.async.bulk.wait_group": print_bulk_wait,
    "nvvm.prefetch.tensormap": print_prefetch,
    "nvvm.mma.sync": print_mma,
    "nvvm.ldmatrix": print_ldmatrix,
    "nvvm.stmatrix": print_stmatrix,
    "nvvm.prmt": print_permute,
    "nvvm.wgmma.fence.aligned": print_fence,
    "nvvm.wgmma.commit.group.sync.aligned": fixed("wgmma.commit_group.sync.aligned"),
    "nvvm.wgmma.wait.group.sync.aligned": counted("wgmma.wait_group.sync.aligned"),
    "nvvm.wgmma.mma_async": print_wgmma,
}
