"""What rings, roles and asynchronous products mean: thin rules on the machine of ``asynchrony.py``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from crosstile.dialects.element_types import dtype_of, poison
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.mma import products, rearrangement, rings, roles
from crosstile.dialects.mma.asynchrony import Machine, Product, Program, Ring, Status
from crosstile.dialects.mma.contexts import Contexts
from crosstile.dialects.mma.memory import Accesses, contents, slot_of, whole
from crosstile.dialects.mma.types import FragmentType

MEANINGS = Meanings()


@MEANINGS.of(rings.RingOp)
def ring(interpreter: Interpreter, op: rings.RingOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A ring whose slots are free and poison."""
    made = Ring(op.result.type, op.result)
    interpreter.state(Machine).rings.append(made)
    return (made,)


@MEANINGS.of(rings.AcquireOp)
def acquire(interpreter: Interpreter, op: rings.AcquireOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The next slot, once it is free."""
    return (interpreter.state(Machine).acquire(operands[0], op),)


@MEANINGS.of(rings.CopyAsyncOp)
def copy_async(interpreter: Interpreter, op: rings.CopyAsyncOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The slot is poison until a wait that covers its commit; only then is the source read."""
    source, handle = operands[0], operands[-1]
    slot = handle.check(Status.ACQUIRED, "copies into")
    place = interpreter.state(Accesses).of(op, slot.array.shape).place(source, operands[1:-1])
    place.check(source.shape, "copies")
    poison(slot.array)

    def deliver() -> None:
        slot.array[...] = place.read(source)

    slot.copies.append(deliver)
    return ()


@MEANINGS.of(rearrangement.CopyTransposedOp)
def copy_transposed(
    interpreter: Interpreter, op: rearrangement.CopyTransposedOp, operands: Sequence[Any]
) -> Sequence[Any]:
    """The elements of a readable slot in a writable one."""
    source, handle = operands
    handle.check(Status.ACQUIRED, "copies into").array[...] = source.readable().T
    return ()


@MEANINGS.of(rings.CommitOp)
def commit(interpreter: Interpreter, op: rings.CommitOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The slots will be full."""
    interpreter.state(Machine).commit(list(operands))
    return ()


@MEANINGS.of(rings.WaitOp)
def wait(interpreter: Interpreter, op: rings.WaitOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The oldest full slot of each ring; the copies that this covers arrive now."""
    in_flight = 0 if op.in_flight is None else op.in_flight.value.data
    return interpreter.state(Machine).wait(list(operands), in_flight, op)


@MEANINGS.of(rings.ReleaseOp)
def release(interpreter: Interpreter, op: rings.ReleaseOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The slots are poison and may be acquired again."""
    for handle in operands:
        interpreter.state(Machine).release(handle)
    return ()


@MEANINGS.of(rings.BarrierOp)
def barrier(interpreter: Interpreter, op: rings.BarrierOp, operands: Sequence[Any]) -> Sequence[Any]:
    """All warps agree on which slots are full and free."""
    interpreter.state(Machine).running().barrier()
    return ()


@MEANINGS.of(roles.RolesOp)
def run_roles(interpreter: Interpreter, op: roles.RolesOp, operands: Sequence[Any]) -> Sequence[Any]:
    """All roles, each as far as it gets, until all have ended."""
    machine = interpreter.state(Machine)
    bodies = [(f"role @{role.name}", partial(_run_role, interpreter, machine, role)) for role in op.roles]
    machine.programs = {f"role @{role.name}": Program(f"role @{role.name}", role.warps) for role in op.roles}
    machine.contexts = Contexts(bodies)
    try:
        machine.contexts.run()
    finally:
        machine.contexts = None
    return ()


def _run_role(interpreter: Interpreter, machine: Machine, role: roles.Role) -> None:
    interpreter.run_block(role.body.block, ())
    machine.running().check_end()


@MEANINGS.of(products.MmaAsyncOp)
def multiply_async(interpreter: Interpreter, op: products.MmaAsyncOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A product in flight, which reads its operands only when an await covers it."""
    from crosstile.targets.model import intrinsic

    lhs, rhs, accumulator = operands
    for operand in (lhs, rhs):
        whole(operand)  # it must be readable already now
    type_ = products.fragment_of(op.accumulator.type)
    reads = tuple(handle for handle in (slot_of(lhs), slot_of(rhs)) if handle is not None)
    product = Product(
        op,
        intrinsic(op.intrinsic.data),
        lambda: (contents(lhs), contents(rhs)),
        accumulator,
        reads,
        type_.get_shape(),
        dtype_of(type_.element_type),
    )
    interpreter.state(Machine).running().products.append(product)
    return (product,)


@MEANINGS.of(products.AwaitOp)
def await_(interpreter: Interpreter, op: products.AwaitOp, operands: Sequence[Any]) -> Sequence[Any]:
    """All but the youngest products complete; a fragment that is not among them is poison."""
    interpreter.state(Machine).running().complete_products(op.count)
    product: Product = operands[0]
    return (product.value() if isinstance(op.result.type, FragmentType) else product,)
