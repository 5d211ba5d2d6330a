"""Running a program whose kernels are PTX: on a GPU, or instruction by instruction in the simulator.

Level: run time. In: the module at the ``mma`` level, whose host functions launch kernels; the PTX of those kernels and
their launch plans; arrays. Out: the results. The host function is interpreted, which costs microseconds a launch, and
every ``tile.launch`` becomes a :class:`Launch` on a :class:`Device`::

    func.func @main(%x, %y) {...                run_program(module, "main", [x], kernels, SimulatedDevice("sm_90a"))
      tile.launch @rows(%x, %h) {stage = 0}       device.upload(x), device.upload(h), device.launch(...),
      tile.launch @second(%h, %y) {stage = 1}     device.download(h), ...

Memory is uploaded as a whole, views with it, and read back after each launch: what a kernel gets is the address of the
view's first element. Memory that nothing has written yet is not uploaded, so that the simulator can tell who reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError, op_error
from crosstile.targets.nvidia.launch import Argument, DeviceArray, KernelPlan, Launch

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.dialects.interpreter import Interpreter
    from crosstile.dialects.tile.launch import LaunchOp
    from crosstile.targets.nvidia.ptx.module import Module
    from crosstile.targets.nvidia.simulator.report import Report

Array = NDArray[Any]


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel: the PTX module that it is in, and how it is launched."""

    ptx: str
    plan: KernelPlan


Kernels = Mapping[str, CompiledKernel]
"""The kernels of a program by name."""


class Device(Protocol):
    """Where kernels run. Addresses are of the device's global memory."""

    processors: int
    """How many blocks a kernel without a grid is launched with."""

    def upload(self, array: Array, *, written: bool) -> int:
        """The address of new memory with the bytes of contiguous ``array``; not ``written``: with unknown contents."""
        ...

    def download(self, address: int, array: Array) -> None:
        """Read the memory that :meth:`upload` gave, as it is now, into ``array``."""
        ...

    def launch(self, ptx: str, launch: Launch) -> None:
        """Run one kernel of the module ``ptx`` to its end."""
        ...


def run_program(module: ModuleOp, entry: str, inputs: Sequence[Array], kernels: Kernels, device: Device) -> list[Array]:
    """The results of the host function ``entry`` of ``module`` on ``inputs``, its kernels run by ``device``.

    Inputs may have any strides and are not written to. Raises :class:`CrosstileError` for arrays that do
    not fit the function, and whatever a launch raises.
    """
    from xdsl.dialects.func import FuncOp

    from crosstile.dialects.element_types import poisoned
    from crosstile.dialects.host import host_signature
    from crosstile.dialects.interpreter import Interpreter
    from crosstile.dialects.tile.launch import LaunchOp
    from crosstile.dialects.tile.meaning import MEANINGS as TILE
    from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM

    session = _Session(kernels, device)
    interpreter = Interpreter(module, UPSTREAM, TILE, {LaunchOp: session.launch})
    function = interpreter.lookup(entry)
    if not isinstance(function, FuncOp):
        raise CrosstileError(f"'{entry}' is no host function but a kernel")
    signature = host_signature(function)
    shapes = signature.shapes_of_results([np.shape(array) for array in inputs])
    results = [poisoned(shape, np.dtype(type_.dtype)) for shape, type_ in zip(shapes, signature.results, strict=True)]
    interpreter.call(entry, [*map(np.ascontiguousarray, inputs), *results])
    return results


@dataclass
class _Session:
    """One call of a host function; ``resident`` has the arrays of a launch: owner and address, by identity."""

    kernels: Kernels
    device: Device
    resident: dict[int, tuple[Array, int]] = field(default_factory=dict[int, tuple[Array, int]])

    def launch(self, interpreter: Interpreter, op: LaunchOp, operands: Sequence[Any]) -> Sequence[Any]:
        """The meaning of ``tile.launch``."""
        name = op.kernel.string_value()
        kernel = self.kernels.get(name)
        if kernel is None:
            raise op_error(op, f"no kernel '{name}' was compiled; there are {', '.join(self.kernels) or 'none'}")
        arguments: list[Argument] = [
            self._on_device(cast("Array", value)) if isinstance(value, np.ndarray) else _scalar(value)
            for value in operands
        ]
        launch = kernel.plan.launch(arguments, self.device.processors)
        if launch is not None:
            self.device.launch(kernel.ptx, launch)
            for owner, address in self.resident.values():
                if owner.flags.writeable and owner.size:
                    self.device.download(address, owner)
        self.resident.clear()
        return ()

    def _on_device(self, view: Array) -> DeviceArray:
        from crosstile.dialects.element_types import is_poison

        owner = _owner(view)
        if id(owner) not in self.resident:
            self.resident[id(owner)] = (owner, self.device.upload(owner, written=not bool(is_poison(owner).all())))
        offset = view.ctypes.data - owner.ctypes.data
        address = self.resident[id(owner)][1] + (offset if view.size else 0)
        strides = tuple(stride // view.itemsize for stride in view.strides)
        return DeviceArray(address, view.shape, strides, view.itemsize)


def _owner(view: Array) -> Array:
    """The array whose memory ``view`` is a part of; row-major, as all arrays of a host function are."""
    while isinstance(base := view.base, np.ndarray):
        view = base
    return view


def _scalar(value: Any) -> int | float:
    return cast("int | float", value.item() if isinstance(value, np.generic) else value)


class SimulatedDevice:
    """The simulator as a :class:`Device` of ``architecture`` ("sm_90a"); ``reports`` has what each launch did.

    Launches raise ``SimulatedFault`` for what the machine leaves undefined. Memory is the simulator's, with gaps
    between arrays, and forgotten after each launch.
    """

    processors = 3
    """Blocks of a kernel without a grid: few, since blocks run one after the other, but more than one or two."""

    def __init__(self, architecture: str):
        from crosstile.targets.nvidia.simulator.global_memory import GlobalMemory

        self.architecture = architecture
        self.reports: list[Report] = []
        self._memory = GlobalMemory()
        self._modules: dict[str, Module] = {}

    def upload(self, array: Array, *, written: bool) -> int:
        """New memory of the simulator; reading what was never written is a fault."""
        if written:
            return self._memory.allocate(array)
        return self._memory.empty(array.shape, array.dtype)

    def download(self, address: int, array: Array) -> None:
        """Copy the memory at ``address`` into ``array``."""
        array[...] = self._memory.read(address)

    def launch(self, ptx: str, launch: Launch) -> None:
        """Simulate every block of the launch."""
        from crosstile.targets.nvidia.ptx.parser import parse_ptx
        from crosstile.targets.nvidia.simulate import simulate

        if ptx not in self._modules:
            self._modules[ptx] = parse_ptx(ptx)
        report = simulate(
            self._modules[ptx],
            launch.kernel,
            launch.grid,
            launch.block,
            launch.arguments,
            self._memory,
            launch.shared_bytes,
            architecture=self.architecture,
        )
        self.reports.append(report)
