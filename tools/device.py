"""Programs for a GPU: their kernels compiled when they are first launched, and the device that runs them.

    device, remark = open_device(program.machine)
    results = run_on_device(program, inputs, device)      arrays of NumPy; tools/gpu_function.py takes the GPU's

Where there is a GPU of the machine's architecture it runs the kernels; else the simulator executes their PTX, and the
remark says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.driver import CudaDevice
from crosstile.targets.nvidia.launch import plan_of
from crosstile.targets.nvidia.run import CompiledKernel, Device, SimulatedDevice, run_program

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.dialects.element_types import Array
    from crosstile.targets.model import Machine
    from crosstile.tools.program import Program


MOST_SIMULATED = 10**9
"""Operations: at 0.4 s for 3e7 on wgmma and 2 s on mma.sync, so many take a minute, and plain arithmetic far longer."""


class DeviceKernels(Mapping[str, CompiledKernel]):
    """The kernels of a program by name, each compiled when it is asked for. ``seconds`` is what that took."""

    def __init__(self, program: Program):
        self._program = program
        self.host, self._modules = program.kernel_modules()
        self._compiled: dict[str, CompiledKernel] = {}
        self.seconds = 0.0

    def __getitem__(self, name: str) -> CompiledKernel:
        if name not in self._compiled:
            begin = perf_counter()
            self._compiled[name] = self._compile(self._modules[name])
            self.seconds += perf_counter() - begin
        return self._compiled[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    @property
    def compiled(self) -> list[str]:
        """The names of the kernels that have been compiled so far."""
        return list(self._compiled)

    def _compile(self, module: ModuleOp) -> CompiledKernel:
        from xdsl.dialects.llvm import FuncOp

        from crosstile.targets.nvidia.emit import emit

        lowered = self._program.lower_kernel(module)
        (function,) = (op for op in lowered.ops if isinstance(op, FuncOp) and "nvvm.kernel" in op.attributes)
        return CompiledKernel(emit(lowered), plan_of(function))


@cache
def gpu() -> CudaDevice:
    """The first GPU of this process, one object for all programs, so that they share its memory and modules."""
    return CudaDevice()


def open_device(machine: Machine, operations: int = 0) -> tuple[Device, str]:
    """The GPU if there is one for ``machine``, else the simulator; and where kernels run, in a few words.

    Raises :class:`CrosstileError` for a program of more ``operations`` than the simulator gets through in minutes.
    """
    try:
        device = gpu()
        device.check_target(machine.cpu)
    except CrosstileError as error:
        if operations > MOST_SIMULATED:
            raise CrosstileError(
                f"{error.message}, and {operations:.2g} operations are too many for the simulator: it takes "
                f"up to {MOST_SIMULATED:.0e}; give smaller sizes"
            ) from error
        return SimulatedDevice(machine.cpu), f"simulated: {error.message}"
    return device, device.name


def run_on_device(
    program: Program, inputs: Sequence[Array], device: Device, kernels: DeviceKernels | None = None
) -> list[Array]:
    """The results of the program's host function, its kernels run by ``device``."""
    found = DeviceKernels(program) if kernels is None else kernels
    return run_program(found.host, program.entry, inputs, found, device)
