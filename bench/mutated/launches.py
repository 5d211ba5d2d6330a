"""The launches of a program, each kept with the memory that it finds, so that one kernel can be run again, changed.

In: a program and arrays. Out: :class:`KernelRuns`, one per kernel, whose ``run`` simulates all launches of that kernel
in a changed module on copies of the memory, and gives what they left in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.launch import Launch
from crosstile.targets.nvidia.ptx.module import Module
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.run import SimulatedDevice, Start
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate
from crosstile.tools.device import DeviceKernels, run_on_device
from crosstile.tools.program import Program


@dataclass
class KernelRuns:
    """A kernel's PTX and its launches, each with the memory before it."""

    kernel: str
    ptx: str
    architecture: str
    launches: list[tuple[Launch, GlobalMemory]] = field(default_factory=list[tuple[Launch, GlobalMemory]])

    @cached_property
    def module(self) -> Module:
        """The kernel's module."""
        return parse_ptx(self.ptx)

    @cached_property
    def _original(self) -> list[tuple[bytes, NDArray[np.int64]]]:
        """What each launch of the kernel as it is leaves in memory, and how often it runs each instruction."""
        return [self._run(self.module, launch, before) for launch, before in self.launches]

    def reaching(self, index: int | None = None) -> list[int]:
        """The launches that run instruction ``index``, all for None: the others cannot tell what stands there."""
        return [at for at, (_, executed) in enumerate(self._original) if index is None or executed[index]]

    def run(self, module: Module, index: int | None = None) -> bytes:
        """What the launches that run instruction ``index`` leave in memory if ``module`` is the kernel's.

        Raises what the simulator raises.
        """
        if module is self.module:
            return b"".join(self._original[at][0] for at in self.reaching(index))
        return b"".join(self._run(module, *self.launches[at])[0] for at in self.reaching(index))

    def _run(self, module: Module, launch: Launch, before: GlobalMemory) -> tuple[bytes, NDArray[np.int64]]:
        memory = deepcopy(before)
        report = simulate(
            module,
            launch.kernel,
            launch.grid,
            launch.block,
            launch.arguments,
            memory,
            launch.shared_bytes,
            architecture=self.architecture,
        )
        return b"".join(one.bytes.tobytes() for one in memory.allocations), np.asarray(report.counts.executed)


class RecordingDevice(SimulatedDevice):
    """The simulator, which keeps each launch and the memory before it in ``kernels``, by the kernel's PTX."""

    def __init__(self, architecture: str):
        super().__init__(architecture)
        self.kernels: dict[str, KernelRuns] = {}

    def prepare(self, ptx: str, launch: Launch) -> Start:
        """What keeps the launch, and then simulates it."""
        start = super().prepare(ptx, launch)

        def run(stream: int) -> None:
            runs = self.kernels.setdefault(ptx, KernelRuns(launch.kernel, ptx, self.architecture))
            runs.launches.append((launch, deepcopy(self._memory)))
            start(stream)

        return run


def kernels_of(program: Program, calls: Sequence[Sequence[NDArray[Any]]]) -> list[KernelRuns]:
    """Every kernel that ``calls`` of a program for an NVIDIA target launch, with all launches of it."""
    device, kernels = RecordingDevice(program.machine.cpu), DeviceKernels(program)
    with np.errstate(all="ignore"):
        for inputs in calls:
            run_on_device(program, inputs, device, kernels)
    return list(device.kernels.values())
