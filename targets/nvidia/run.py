"""Running a program whose kernels are PTX: on a GPU, or instruction by instruction in the simulator.

Level: run time. In: the module at the ``mma`` level, whose host functions launch kernels; the PTX of those kernels and
their launch plans; addresses of arrays on the device. Out: work on a stream of the device, and nothing else: what one
kernel leaves for another stays on the device::

    program = DeviceProgram(HostModule(module, "main"), kernels, device)
    program.run([(1000, 64)], [x_address], [y_address], stream)    copies nothing, waits for nothing

What a call does for given shapes is found once (:mod:`call_plan`); for given addresses its launches are prepared once,
with their parameters packed and their tensor maps encoded, so that a call that was made before is one call of the
driver per launch. Memory of temporaries is the stream's (:mod:`pool`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.call_plan import CallPlan, CopyStep, FillStep, KernelStep, Step, View, plan_call
from crosstile.targets.nvidia.launch import Argument, DeviceArray, KernelPlan, Launch

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.targets.nvidia.ptx.module import Module
    from crosstile.targets.nvidia.simulator.report import Report
    from crosstile.targets.signature import HostSignature

Array = NDArray[Any]
Start = Callable[[int], None]
"""Starts a piece of work on a stream."""

KEPT_PLANS = 256
"""Combinations of shapes, and of addresses, that a program remembers."""


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel: the PTX module that it is in, and how it is launched."""

    ptx: str
    plan: KernelPlan


Kernels = Mapping[str, CompiledKernel]
"""The kernels of a program by name."""


class Device(Protocol):
    """Where kernels run. Addresses are of its global memory; streams are the driver's handles, 0 the default."""

    processors: int
    """How many blocks a kernel without a grid is launched with."""
    separate_temporaries: bool
    """Whether each temporary of a call is memory of its own, or all of them share a workspace."""

    def entered(self) -> AbstractContextManager[None]:
        """Everything below happens inside this."""
        ...

    def allocate(self, size: int, stream: int = 0, name: str = "") -> int:
        """The address of memory of ``size`` bytes for work on ``stream``, which nobody has written."""
        ...

    def release(self, address: int, stream: int = 0) -> None:
        """Later work on ``stream`` may use the memory."""
        ...

    def write(self, address: int, array: Array, stream: int = 0) -> None:
        """Copy contiguous ``array`` to the device; it must stay as it is until ``stream`` has done so."""
        ...

    def read(self, address: int, array: Array, stream: int = 0) -> None:
        """Copy the memory at ``address`` into contiguous ``array``, after all work on ``stream`` so far."""
        ...

    def fill(self, address: int, data: bytes, stream: int = 0) -> None:
        """Write the bytes of one element."""
        ...

    def copy(self, source: int, target: int, size: int, stream: int = 0) -> None:
        """Copy bytes from one place on the device to another."""
        ...

    def synchronize(self, stream: int = 0) -> None:
        """Wait for all work on ``stream`` so far."""
        ...

    def is_capturing(self, stream: int) -> bool:
        """Whether work on ``stream`` becomes part of a graph instead of being done."""
        ...

    def prepare(self, ptx: str, launch: Launch) -> Start:
        """What starts one kernel of the module ``ptx``."""
        ...


class Host(Protocol):
    """A host function: what it takes, and what a call of it does."""

    signature: HostSignature

    def plan(self, shapes: tuple[tuple[int, ...], ...]) -> CallPlan:
        """What a call on inputs of these shapes does; raises :class:`CrosstileError` if the program refuses them."""
        ...


class HostModule:
    """The host function ``entry`` of ``module``, which is at the ``mma`` level."""

    def __init__(self, module: ModuleOp, entry: str):
        from xdsl.dialects.builtin import StringAttr
        from xdsl.dialects.func import FuncOp

        from crosstile.dialects.host import host_signature

        found = [op for op in module.ops if op.properties.get("sym_name") == StringAttr(entry)]
        if not found or not isinstance(found[0], FuncOp):
            raise CrosstileError(f"'{entry}' is no host function but a kernel")
        self.signature = host_signature(found[0])
        self._module, self._entry = module, entry
        self._dtypes = [_dtype(type_.dtype) for type_ in self.signature.inputs]

    def plan(self, shapes: tuple[tuple[int, ...], ...]) -> CallPlan:
        """What a call on inputs of these shapes does."""
        return plan_call(self._module, self._entry, self.signature, shapes, self._dtypes)


class DeviceProgram:
    """The function ``host``, its ``kernels`` run by ``device``."""

    def __init__(self, host: Host, kernels: Kernels, device: Device):
        self.signature = host.signature
        self.device = device
        self._host, self._kernels = host, kernels
        self._plans: dict[tuple[tuple[int, ...], ...], CallPlan] = {}
        self._constants: dict[str, int] = {}
        self._prepared: dict[tuple[Any, ...], list[Start]] = {}

    def plan(self, shapes: tuple[tuple[int, ...], ...]) -> CallPlan:
        """What a call on inputs of these shapes does; raises :class:`CrosstileError` if the program refuses them."""
        if shapes not in self._plans:
            if len(self._plans) >= KEPT_PLANS:
                self._plans.clear()
            self._plans[shapes] = self._host.plan(shapes)
        return self._plans[shapes]

    def run(
        self, shapes: tuple[tuple[int, ...], ...], inputs: Sequence[int], results: Sequence[int], stream: int = 0
    ) -> None:
        """Start a call on ``stream``: contiguous inputs and results at these addresses of the device.

        To be called inside ``device.entered()``. Raises what a launch raises; a fault of a kernel on a GPU shows when
        somebody waits for the stream.
        """
        plan, device = self.plan(shapes), self.device
        temporaries = self._temporaries(plan, stream)
        try:
            key = (shapes, *inputs, *results, *temporaries)
            steps = self._prepared.get(key)
            if steps is None:
                if len(self._prepared) >= KEPT_PLANS:
                    self._prepared.clear()
                addresses = self._addresses(plan, inputs, results, temporaries)
                steps = [start for step in plan.steps if (start := self._prepare(step, addresses)) is not None]
                self._prepared[key] = steps
            for start in steps:
                start(stream)
        finally:
            for address in temporaries:
                device.release(address, stream)

    def _temporaries(self, plan: CallPlan, stream: int) -> list[int]:
        """Memory for the temporaries of a call: one block for each, or one for all."""
        device = self.device
        if device.separate_temporaries:
            return [device.allocate(one.size, stream, one.name) for one in plan.of_kind("temporary")]
        return [device.allocate(plan.workspace, stream)] if plan.workspace else []

    def _addresses(
        self, plan: CallPlan, inputs: Sequence[int], results: Sequence[int], temporaries: Sequence[int]
    ) -> list[int]:
        """Where each buffer of the plan lies."""
        given = {"input": iter(inputs), "result": iter(results), "temporary": iter(temporaries)}
        found: list[int] = []
        for buffer in plan.buffers:
            if buffer.data is not None:
                found.append(self._constant(buffer.name, buffer.data))
            elif buffer.kind == "temporary" and not self.device.separate_temporaries:
                found.append(temporaries[0] + buffer.offset if temporaries else 0)
            else:
                found.append(next(given[buffer.kind]))
        return found

    def _constant(self, name: str, data: Array) -> int:
        """Where a constant of the program lies, which is copied to the device once."""
        if name not in self._constants:
            address = self.device.allocate(data.nbytes, 0, name)
            self.device.write(address, np.ascontiguousarray(data))
            self._constants[name] = address
        return self._constants[name]

    def _prepare(self, step: Step, addresses: Sequence[int]) -> Start | None:
        """What starts a step of a call; None for a launch of no blocks."""
        match step:
            case FillStep(target, data):
                return partial(self.device.fill, addresses[target.buffer] + target.offset, data)
            case CopyStep(source, target):
                places = (addresses[view.buffer] + view.offset for view in (source, target))
                return partial(self.device.copy, *places, source.size)
            case KernelStep(name, arguments):
                kernel = self._kernels.get(name)
                if kernel is None:
                    known = ", ".join(self._kernels) or "none"
                    raise CrosstileError(f"no kernel '{name}' was compiled; there are {known}")
                given = [_argument(one, addresses) for one in arguments]
                launch = kernel.plan.launch(given, self.device.processors)
                return None if launch is None else self.device.prepare(kernel.ptx, launch)


def _dtype(name: str) -> np.dtype[Any]:
    from crosstile.targets.x86.launch import dtype_called

    return dtype_called(name)


def _argument(value: View | int | float, addresses: Sequence[int]) -> Argument:
    if not isinstance(value, View):
        return value
    return DeviceArray(addresses[value.buffer] + value.offset, value.shape, value.strides, value.element_bytes)


def run_program(module: ModuleOp, entry: str, inputs: Sequence[Array], kernels: Kernels, device: Device) -> list[Array]:
    """The results of the host function ``entry`` of ``module`` on ``inputs``, its kernels run by ``device``.

    Inputs may have any strides and are not written to. Raises :class:`CrosstileError` for arrays that do
    not fit the function, and whatever a launch raises.
    """
    return call_with_arrays(DeviceProgram(HostModule(module, entry), kernels, device), inputs)


def call_with_arrays(program: DeviceProgram, inputs: Sequence[Array], stream: int = 0) -> list[Array]:
    """The results of a call on arrays of the host: they are copied to the device, and the results back."""
    signature, device = program.signature, program.device
    given = [np.ascontiguousarray(array) for array in inputs]
    shapes = tuple(array.shape for array in inputs)
    types = [_dtype(type_.dtype) for type_ in signature.results]
    with device.entered():
        program.plan(shapes)
        results = [np.empty(*pair) for pair in zip(signature.shapes_of_results(shapes), types, strict=True)]
        taken: list[int] = []
        try:
            for array, name in zip([*given, *results], [*signature.names, *[""] * len(results)], strict=True):
                taken.append(device.allocate(array.nbytes, stream, name))
            for address, array in zip(taken, given, strict=False):
                device.write(address, array, stream)
            program.run(shapes, taken[: len(given)], taken[len(given) :], stream)
            for address, array in zip(taken[len(given) :], results, strict=True):
                device.read(address, array, stream)
        finally:
            for address in taken:
                device.release(address, stream)
    return results


class SimulatedDevice:
    """The simulator as a :class:`Device` of ``architecture`` ("sm_90a"); ``reports`` has what each launch did.

    Launches raise ``SimulatedFault`` for what the machine leaves undefined. Memory is the simulator's, with gaps
    between arrays, and what was never written is not to be read, by any launch. There are no streams: work is done at
    once.
    """

    processors = 3
    """Blocks of a kernel without a grid: few, since blocks run one after the other, but more than one or two."""
    separate_temporaries = True
    """So that a kernel that leaves one is noticed."""

    def __init__(self, architecture: str):
        from crosstile.targets.nvidia.simulator.global_memory import GlobalMemory

        self.architecture = architecture
        self.reports: list[Report] = []
        self._memory = GlobalMemory()
        self._modules: dict[str, Module] = {}

    def entered(self) -> AbstractContextManager[None]:
        """Nothing to enter."""
        return nullcontext()

    def allocate(self, size: int, stream: int = 0, name: str = "") -> int:
        """New memory of the simulator; reading what was never written is a fault."""
        return self._memory.empty((size,), np.uint8, name)

    def release(self, address: int, stream: int = 0) -> None:
        """Forget the memory: whoever uses it is told that it is in no array."""
        self._memory.release(address)

    def write(self, address: int, array: Array, stream: int = 0) -> None:
        """Copy ``array`` to the simulator's memory."""
        if array.nbytes:
            self._memory.write(address, array.tobytes())

    def read(self, address: int, array: Array, stream: int = 0) -> None:
        """Copy the memory at ``address`` into ``array``."""
        if array.nbytes:
            array[...] = self._memory.read(address).view(array.dtype).reshape(array.shape)

    def fill(self, address: int, data: bytes, stream: int = 0) -> None:
        """Write the bytes of one element."""
        self._memory.write(address, data)

    def copy(self, source: int, target: int, size: int, stream: int = 0) -> None:
        """Copy bytes from one place of the simulator's memory to another."""
        self._memory.copy(source, target, size)

    def synchronize(self, stream: int = 0) -> None:
        """Everything is done already."""

    def is_capturing(self, stream: int) -> bool:
        """There are no graphs."""
        return False

    def prepare(self, ptx: str, launch: Launch) -> Start:
        """What simulates every block of the launch."""
        from crosstile.targets.nvidia.ptx.parser import parse_ptx

        if ptx not in self._modules:
            self._modules[ptx] = parse_ptx(ptx)
        return partial(self._simulate, self._modules[ptx], launch)

    def _simulate(self, module: Module, launch: Launch, stream: int) -> None:
        from crosstile.targets.nvidia.simulate import simulate

        report = simulate(
            module,
            launch.kernel,
            launch.grid,
            launch.block,
            launch.arguments,
            self._memory,
            launch.shared_bytes,
            architecture=self.architecture,
        )
        self.reports.append(report)
