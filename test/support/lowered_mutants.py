"""Mutants of a kernel that was lowered from an nn program: the simulator runs each in place of the original."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crosstile.targets.nvidia.call_plan import KernelStep
from crosstile.targets.nvidia.ptx.module import Module
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.run import CompiledKernel, DeviceProgram, HostModule, SimulatedDevice, call_with_arrays
from crosstile.targets.nvidia.simulator.mutants import Mutant, mutants
from crosstile.tools.device import DeviceKernels
from crosstile.tools.program import Program


class Changed(SimulatedDevice):
    """The simulator, which runs another module than it is given."""

    def __init__(self, architecture: str, module: Module):
        super().__init__(architecture)
        self.module = module

    def prepare(self, ptx: str, launch: Any) -> Any:
        """What simulates the other module."""
        self._modules[ptx] = self.module
        return super().prepare(ptx, launch)


def mutants_of(program: Program, target: str, inputs: Sequence[Any]) -> list[Mutant]:
    """The mutants of the one kernel that ``program`` runs for ``inputs``."""
    kernels = DeviceKernels(program)
    host = HostModule(kernels.host, program.entry)
    plan = DeviceProgram(host, kernels, SimulatedDevice(target)).plan(tuple(one.shape for one in inputs))
    (kernel,) = (step.kernel for step in plan.steps if isinstance(step, KernelStep))
    compiled = {kernel: CompiledKernel(kernels[kernel].ptx, kernels[kernel].plan)}

    def run(changed: Module) -> bytes:
        device = Changed(target, changed)
        return call_with_arrays(DeviceProgram(host, compiled, device), inputs)[0].tobytes()

    return list(mutants(parse_ptx(compiled[kernel].ptx), kernel, run))
