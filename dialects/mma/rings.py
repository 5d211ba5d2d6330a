"""Rings: queues of scratch slots, the only channel between roles, and how data gets into them.

    %ring = mma.ring : !mma.ring<4 x 128x64xbf16>
    producer                                                consumer
    %s = mma.acquire %ring : !ring      // a free slot      %t = mma.wait %ring : !ring          // the oldest full slot
    mma.copy_async %A[%i, %k] to %s     // starts, returns  ... mma.load %t ... mma.mma %t ...
    mma.commit %s : !write              // full on arrival  mma.release %t : !read               // free again

Each slot goes round: free -> acquire -> (writable) -> commit -> (in flight) -> wait -> (readable) -> release -> free.
Slots are acquired, committed, waited for and released in the order of the ring. The ring's protocol
(see :class:`RingType`) says what makes a full slot known to its readers and a free one to its writers.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import AffineMapAttr, DenseArrayBase, IndexType, IntegerAttr, MemRefType, UnitAttr
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    result_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.mma.access import element_type_of
from crosstile.dialects.mma.kernel import integer, integer_list, integers
from crosstile.dialects.mma.pending import verify_release
from crosstile.dialects.mma.place import (
    Extents,
    given_extents,
    listed_extents,
    parse_place,
    place_properties,
    print_place,
    verify_place,
)
from crosstile.dialects.mma.types import GROUPS, READ, WRITE, RingType, SlotType, type_of


@irdl_op_definition
class RingOp(IRDLOperation):
    """``%r = mma.ring : !mma.ring<4 x 128x64xbf16>``: a ring, all slots free, until the end of the enclosing body."""

    name = "mma.ring"

    result = result_def(RingType)

    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, type: RingType):
        super().__init__(result_types=[type])


@irdl_op_definition
class AcquireOp(IRDLOperation):
    """``%s = mma.acquire %ring : !mma.ring<...>``: waits until the next slot is free; the slot may then be written.

    In the ``groups`` protocol the slot must already be free, and a barrier must stand between its release and this:
    other warps may still be reading it.
    """

    name = "mma.acquire"

    ring = operand_def(RingType)
    slot = result_def(SlotType)

    def __init__(self, ring: SSAValue | Operation):
        ring = SSAValue.get(ring, type=RingType)
        super().__init__(operands=[ring], result_types=[ring.type.slot(WRITE)])

    @classmethod
    def parse(cls, parser: Parser) -> AcquireOp:
        """Parse the custom syntax."""
        ring = parser.parse_unresolved_operand("expected a ring")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        op = cls(parser.resolve_operand(ring, parse_ring_type(parser)))
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_ssa_value(self.ring)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.ring.type)

    def verify_(self) -> None:
        """The slot is one of the ring's."""
        verify_slot(type_of(self.ring, RingType), self.slot.type, WRITE)


def parse_ring_type(parser: Parser) -> RingType:
    """Parse a type that must be a ring's."""
    position = parser.pos
    type_ = parser.parse_type()
    if not isinstance(type_, RingType):
        parser.raise_error(f"expected a ring, !mma.ring<...>, got {type_}", position, parser.pos)
    return type_


def verify_slot(ring: RingType, slot: SlotType, access: str) -> None:
    """``slot`` is what a ring of this type gives for ``access``."""
    if slot != ring.slot(access):
        raise VerifyException(f"gives a slot {slot}; the ring's slots for this are {ring.slot(access)}")


@irdl_op_definition
class CopyAsyncOp(IRDLOperation):
    """``mma.copy_async %A[%i, %k] extent [%mc, %kc] to %slot : memref<...> to !mma.slot<write ...>``.

    Starts a copy from global memory and does not wait for it. The source may be read, and the slot written, at any
    time until a wait that covers the slot's commit returns. Invalid elements are filled with zeros. The place is
    explained in ``place.py``; element types must be equal.

    ``to %slot multicast [0]``: the blocks of a cluster that differ along dimension 0 of the grid alone copy the same,
    and so each copies a part, for all of them.
    """

    name = "mma.copy_async"

    source = operand_def(MemRefType)
    indices = var_operand_def()
    extents = var_operand_def(IndexType)
    slot = operand_def(SlotType)
    map = opt_prop_def(AffineMapAttr)
    extent_dims = opt_prop_def(DenseArrayBase)
    clip = opt_prop_def(UnitAttr)
    multicast = opt_prop_def(DenseArrayBase)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        source: SSAValue | Operation,
        indices: Sequence[SSAValue | Operation],
        slot: SSAValue | Operation,
        extents: Extents = (),
        map: AffineMapAttr | None = None,
        clip: bool = False,
        multicast: Sequence[int] = (),
    ):
        given, dims = given_extents(extents)
        properties = place_properties(map, dims, clip)
        properties["multicast"] = integers(multicast) if multicast else None
        super().__init__(operands=[source, indices, given, slot], properties=properties)

    @property
    def shared_dims(self) -> list[int]:
        """The dimensions of the grid along which blocks of a cluster copy for each other."""
        return integer_list(self.multicast)

    @classmethod
    def parse(cls, parser: Parser) -> CopyAsyncOp:
        """Parse the custom syntax."""
        place = parse_place(parser)
        parser.parse_keyword("to", " before the slot that is filled")
        slot = parser.parse_unresolved_operand("expected the slot that is filled")
        shared: list[int] = []
        if parser.parse_optional_keyword("multicast") is not None:
            shared = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        source = parser.resolve_operand(place.source, parser.parse_type())
        parser.parse_keyword("to", " between the types of memory and slot")
        target = parser.resolve_operand(slot, parser.parse_type())
        op = cls(source, place.indices, target, place.extents, place.map, place.clip, shared)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        extents = listed_extents(self.extents, self.extent_dims, self.slot_type.get_num_dims())
        print_place(printer, self.source, self.map, self.indices, extents, self.clip is not None)
        printer.print_string(" to ")
        printer.print_ssa_value(self.slot)
        if self.multicast is not None:
            printer.print_string(f" multicast {self.shared_dims}")
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.source.type)
        printer.print_string(" to ")
        printer.print_attribute(self.slot.type)

    @property
    def slot_type(self) -> SlotType:
        """The type of the slot that is filled."""
        return type_of(self.slot, SlotType)

    def verify_(self) -> None:
        """The slot is writable, and the place fits it."""
        slot = self.slot_type
        if slot.access.data != WRITE:
            raise VerifyException(
                "copies into a slot that has been waited for; a slot is writable between mma.acquire and mma.commit"
            )
        element = element_type_of(self.source.type)
        if element != slot.get_element_type():
            raise VerifyException(f"copies {element} into a slot of {slot.get_element_type()}; a copy converts nothing")
        verify_place(self.source.type, self.map, self.indices, self.extents, self.extent_dims, slot.get_shape())
        if self.multicast is not None:
            self._verify_multicast()

    def _verify_multicast(self) -> None:
        """Blocks of one cluster that differ along these dimensions alone do copy the same, and equally often."""
        from crosstile.dialects.instance_dependence import dependences, grid_around

        grid = grid_around(self)
        cluster = () if grid is None else grid.order.cluster
        dims = self.shared_dims
        if len(set(dims)) != len(dims) or any(not 0 <= dim < len(cluster) or cluster[dim] < 2 for dim in dims):
            legal = [dim for dim, blocks in enumerate(cluster) if blocks > 1] or "none here"
            raise VerifyException(
                f"multicast {dims}: expects distinct dimensions along which a cluster has blocks: {legal}"
            )
        if same := sorted(dependences(self) & set(dims)):
            raise VerifyException(
                f"multicast {dims}: what is copied, or how often, depends on dimension {same[0]} of the grid, so that "
                "the blocks of a cluster along it do not copy the same"
            )


@irdl_op_definition
class CommitOp(IRDLOperation):
    """``mma.commit %a, %b : !mma.slot<write ...>, !mma.slot<write ...>``: the slots are full once their copies arrive.

    All copies since the last commit form one group. ``mma.commit empty`` is a group without copies, which keeps count
    for the ``in_flight`` of later waits.
    """

    name = "mma.commit"

    slots = var_operand_def(SlotType)

    def __init__(self, *slots: SSAValue | Operation):
        super().__init__(operands=[slots])

    @classmethod
    def parse(cls, parser: Parser) -> CommitOp:
        """Parse the custom syntax."""
        if parser.parse_optional_keyword("empty") is not None:
            op = cls()
            op.attributes.update(parser.parse_optional_attr_dict())
            return op
        slots = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_unresolved_operand)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        position = parser.pos
        types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
        op = cls(*parser.resolve_operands(slots, types, position))
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        if not self.slots:
            printer.print_string("empty")
        printer.print_list(self.slots, printer.print_ssa_value)
        printer.print_op_attributes(self.attributes)
        if self.slots:
            printer.print_string(" : ")
            printer.print_list(self.slots.types, printer.print_attribute)

    def verify_(self) -> None:
        """Only writable slots, each once."""
        verify_slots(self.slots, WRITE, "commits", "mma.acquire")


def verify_slots(slots: Sequence[SSAValue], access: str, verb: str, source: str) -> None:
    """All ``slots`` have ``access``, and none is named twice."""
    for slot in slots:
        type_ = slot.type
        if not isinstance(type_, SlotType) or type_.access.data != access:
            raise VerifyException(f"{verb} {type_}; expects a slot that {source} gave, !mma.slot<{access} ...>")
    if len(set(slots)) != len(slots):
        raise VerifyException(f"{verb} one slot twice")


@irdl_op_definition
class WaitOp(IRDLOperation):
    """``%a, %b = mma.wait %ra, %rb in_flight 2 : !mma.ring<...>, !mma.ring<...>``: the oldest full slot of each ring.

    With ``barriers`` it waits until the copies of those slots have arrived. With ``groups`` it waits until at most
    ``in_flight`` (0 if not given) of the youngest commit groups are still on their way, which makes the slots readable
    only for the warp whose copies they were; a barrier makes them readable for all.
    """

    name = "mma.wait"

    rings = var_operand_def(RingType)
    in_flight = opt_prop_def(IntegerAttr)
    slots = var_result_def(SlotType)

    def __init__(self, rings: Sequence[SSAValue | Operation], in_flight: int | None = None):
        values = [SSAValue.get(ring, type=RingType) for ring in rings]
        super().__init__(
            operands=[values],
            properties={"in_flight": None if in_flight is None else integer(in_flight)},
            result_types=[[ring.type.slot(READ) for ring in values]],
        )

    @classmethod
    def parse(cls, parser: Parser) -> WaitOp:
        """Parse the custom syntax."""
        rings = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_unresolved_operand)
        in_flight = parser.parse_integer() if parser.parse_optional_keyword("in_flight") is not None else None
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        position = parser.pos
        types = parser.parse_comma_separated_list(parser.Delimiter.NONE, lambda: parse_ring_type(parser))
        op = cls(parser.resolve_operands(rings, types, position), in_flight)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_list(self.rings, printer.print_ssa_value)
        if self.in_flight is not None:
            printer.print_string(f" in_flight {self.in_flight.value.data}")
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_list(self.rings.types, printer.print_attribute)

    def verify_(self) -> None:
        """At least one ring, all of one protocol, ``in_flight`` only for groups, the slots those of the rings."""
        rings = [type_of(ring, RingType) for ring in self.rings]
        if not rings or len(rings) != len(self.slots):
            raise VerifyException(
                f"waits for {len(rings)} rings and gives {len(self.slots)} slots; expects one per ring"
            )
        protocols = {ring.protocol.data for ring in rings}
        if len(protocols) > 1:
            raise VerifyException("waits for rings of both protocols; wait for them one after the other")
        if self.in_flight is not None and (protocols != {GROUPS} or self.in_flight.value.data < 0):
            raise VerifyException(
                "'in_flight' counts commit groups: it is at least 0, and rings of protocol barriers have none"
            )
        for ring, slot in zip(rings, self.slots, strict=True):
            verify_slot(ring, slot.type, READ)


@irdl_op_definition
class ReleaseOp(IRDLOperation):
    """``mma.release %a, %b : !mma.slot<read ...>, !mma.slot<read ...>``: the slots may be overwritten from now on.

    No pending product may still read them: an ``mma.await`` that covers every ``mma.mma_async`` on the slots must stand
    on every path to the release. This is checked.
    """

    name = "mma.release"

    slots = var_operand_def(SlotType)

    assembly_format = "$slots attr-dict `:` type($slots)"

    def __init__(self, *slots: SSAValue | Operation):
        super().__init__(operands=[slots])

    def verify_(self) -> None:
        """Only readable slots, each once, and nobody still reads them."""
        if not self.slots:
            raise VerifyException("releases nothing; expects at least one slot")
        verify_slots(self.slots, READ, "releases", "mma.wait")
        verify_release(self)


@irdl_op_definition
class BarrierOp(IRDLOperation):
    """``mma.barrier``: all warps of this program, or of this role, reach it before any goes on.

    What each has written to scratch, and the copies each has waited for, are then seen by all.
    """

    name = "mma.barrier"

    assembly_format = "attr-dict"
