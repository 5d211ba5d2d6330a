"""Roles: parts of one program that run concurrently, each on its own warps, and meet only at rings.

    mma.roles {
      role @load warps(4) registers(40) { ... mma.acquire %ring ... mma.commit ... }
      role @compute warps(8) registers(232) { ... mma.wait %ring ... mma.release ... }
    }

A role sees what is defined before the roles: memory, indices, scalars and rings. It may not see registers (fragments,
pending fragments) or slots of the program around it, and what one role writes to memory no other may read: rings are
the only channel. Each ring has one producer role and one consumer role.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, MemRefType, StringAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, prop_def, traits_def, var_region_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import SingleBlockImplicitTerminator, ensure_terminator
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.mma.kernel import YieldOp, integer_list, integers, parse_parenthesised
from crosstile.dialects.mma.types import BARRIERS, BufferType, FragmentType, PendingType, RingType, SlotType


@dataclass(frozen=True)
class Role:
    """One role: its name, how many warps run it, the registers each thread gets (0: as the kernel), its body."""

    name: str
    warps: int
    registers: int
    body: Region


@irdl_op_definition
class RolesOp(IRDLOperation):
    """``mma.roles { role @load warps(4) registers(40) { ... } role @compute warps(8) { ... } }``.

    All roles start together, and the operation ends when all have ended. A body that starts a wait that no other role
    will ever answer is a deadlock.
    """

    name = "mma.roles"

    names = prop_def(ArrayAttr[StringAttr])
    warps = prop_def(DenseArrayBase)
    registers = prop_def(DenseArrayBase)
    bodies = var_region_def("single_block")

    traits = traits_def(SingleBlockImplicitTerminator(YieldOp))

    def __init__(self, roles: Sequence[Role]):
        super().__init__(
            properties={
                "names": ArrayAttr(StringAttr(role.name) for role in roles),
                "warps": integers([role.warps for role in roles]),
                "registers": integers([role.registers for role in roles]),
            },
            regions=[[role.body for role in roles]],
        )
        ensure_terminator(self, SingleBlockImplicitTerminator(YieldOp))

    @property
    def roles(self) -> list[Role]:
        """The roles in the order in which they are written."""
        names = [name.data for name in self.names]
        lists = zip(names, integer_list(self.warps), integer_list(self.registers), self.bodies, strict=True)
        return [Role(*entry) for entry in lists]

    @classmethod
    def parse(cls, parser: Parser) -> RolesOp:
        """Parse the custom syntax."""
        roles: list[Role] = []
        parser.parse_punctuation("{")
        while parser.parse_optional_punctuation("}") is None:
            parser.parse_keyword("role", ": mma.roles contains roles, as in role @load warps(4) { ... }")
            name = parser.parse_symbol_name().data
            parser.parse_keyword("warps", " after the name of a role, as in warps(4)")
            warps = parse_parenthesised(parser)
            registers = parse_parenthesised(parser) if parser.parse_optional_keyword("registers") is not None else 0
            roles.append(Role(name, warps, registers, parser.parse_region()))
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(roles)
        if attributes is not None:
            op.attributes.update(attributes.data)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" {")
        with printer.indented():
            for role in self.roles:
                printer.print_string("\nrole ")
                printer.print_symbol_name(role.name)
                printer.print_string(f" warps({role.warps})")
                if role.registers:
                    printer.print_string(f" registers({role.registers})")
                printer.print_string(" ")
                printer.print_region(role.body, print_entry_block_args=False, print_block_terminators=False)
        printer.print_string("\n}")
        printer.print_op_attributes(self.attributes, print_keyword=True)

    def verify_(self) -> None:
        """Roles are well formed, and rings are all they share."""
        count = len(self.bodies)
        if not count or not len(self.names) == len(self.warps) == len(self.registers) == count:
            raise VerifyException("expects at least one role, each with a name, warps and registers")
        names = [role.name for role in self.roles]
        if len(set(names)) != count:
            raise VerifyException(f"two roles have one name among {', '.join('@' + name for name in names)}")
        uses = [_Uses(role) for role in self.roles]
        for role in self.roles:
            if role.warps < 1 or role.registers < 0:
                raise VerifyException(f"role @{role.name} has warps({role.warps}) registers({role.registers})")
        for use in uses:
            use.verify()
        for one in uses:
            for other in uses:
                if one is not other:
                    one.verify_against(other)


class _Uses:
    """What one role does with the values of the program around it."""

    def __init__(self, role: Role):
        self.name = role.name
        self.captured: dict[SSAValue, Operation] = {}
        self.written: set[SSAValue] = set()
        self.read: set[SSAValue] = set()
        self.produced: set[SSAValue] = set()
        self.consumed: set[SSAValue] = set()
        for op in role.body.walk():
            for value in op.operands:
                if not _inside(value, role.body):
                    self.captured.setdefault(value, op)
                    self._note(op, value)

    def _note(self, op: Operation, value: SSAValue) -> None:
        match op.name:
            case "mma.acquire":
                self.produced.add(value)
            case "mma.wait":
                self.consumed.add(value)
            case "mma.store" | "memref.store" if isinstance(value.type, MemRefType | BufferType):
                self.written.add(value)
            case _ if isinstance(value.type, MemRefType | BufferType) and op.name != "memref.dim":
                self.read.add(value)
            case _:
                pass

    def verify(self) -> None:
        """Nothing is captured that lives in other warps' registers."""
        for value, op in self.captured.items():
            if isinstance(value.type, FragmentType | PendingType | SlotType):
                raise VerifyException(
                    f"role @{self.name} uses %{value.name_hint or '?'}, {_kind(value.type)} of the program around the "
                    f"roles, in {op.name}; rings are the only channel between roles"
                )
        for ring in self.produced | self.consumed:
            both = ring in self.produced and ring in self.consumed
            if not both and isinstance(ring.type, RingType) and ring.type.protocol.data != BARRIERS:
                raise VerifyException(
                    f"role @{self.name} shares ring %{ring.name_hint or '?'} of protocol {ring.type.protocol.data} "
                    f"with another role; only protocol {BARRIERS} tells other roles that a slot is full"
                )

    def verify_against(self, other: _Uses) -> None:
        """``other`` shares nothing with this role but rings, with one producer and one consumer each."""
        for shared in self.written & (other.written | other.read):
            raise VerifyException(
                f"role @{self.name} writes %{shared.name_hint or '?'}, which role @{other.name} uses too; rings are "
                "the only channel between roles"
            )
        for does, mine, theirs in (
            ("acquire from", self.produced, other.produced),
            ("wait for", self.consumed, other.consumed),
        ):
            for ring in mine & theirs:
                raise VerifyException(
                    f"roles @{self.name} and @{other.name} both {does} ring %{ring.name_hint or '?'}; a ring has one "
                    "producer and one consumer"
                )


def _inside(value: SSAValue, region: Region) -> bool:
    block: Block | None = value.owner if isinstance(value.owner, Block) else value.owner.parent_block()
    while block is not None:
        owner = block.parent_region()
        if owner is region:
            return True
        parent = None if owner is None else owner.parent_op()
        block = None if parent is None else parent.parent_block()
    return False


def _kind(type_: Attribute) -> str:
    if isinstance(type_, FragmentType):
        return "a fragment"
    return "a pending fragment" if isinstance(type_, PendingType) else "a slot"
