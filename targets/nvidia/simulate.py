"""Runs PTX without a GPU: the text that was emitted, block after block, with everything checked.

Level: how the NVIDIA targets run where there is no NVIDIA. In: PTX text (ours or anybody's), a kernel's name, a launch.
Out: global memory as the kernel leaves it and a report of what it did; a race, a deadlock, a missing wait, an access
out of bounds or of what nobody wrote is a :class:`SimulatedFault` with the PTX line and the operation it came from::

    memory = GlobalMemory()
    x, y = memory.allocate(np.ones(1000, np.float32)), memory.empty((1000,), np.float32)
    report = simulate(text, "scale", grid=(8, 1, 1), block=(128, 1, 1), arguments=[x, y, 1000, 2.0], memory=memory)
    memory.read(y)

What is modelled and what is not: docs/simulator.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.registry import did_you_mean
from crosstile.targets.nvidia.ptx.module import Kernel, Module, Parameter
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.simulator.async_copies import finish_block
from crosstile.targets.nvidia.simulator.block import Cluster, Launch, Three
from crosstile.targets.nvidia.simulator.counts import Counts
from crosstile.targets.nvidia.simulator.faults import SimulatedFault, Trouble
from crosstile.targets.nvidia.simulator.global_memory import GlobalMemory
from crosstile.targets.nvidia.simulator.program import parameter_layout
from crosstile.targets.nvidia.simulator.report import Report
from crosstile.targets.nvidia.simulator.rules import decode
from crosstile.targets.nvidia.simulator.scheduler import run_cluster
from crosstile.targets.nvidia.tensor_map import TensorMap

Argument = int | float | TensorMap

__all__ = ["GlobalMemory", "Report", "SimulatedFault", "TensorMap", "simulate"]


def simulate(
    module: Module | str,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Argument],
    memory: GlobalMemory,
    shared_bytes: int = 0,
    cluster: Sequence[int] | None = None,
    architecture: str = "",
) -> Report:
    """Runs ``kernel`` and reports what it did.

    ``arguments`` are one per parameter: addresses of ``memory`` and numbers, or a :class:`TensorMap` for 128 bytes.
    ``shared_bytes`` are dynamic. ``cluster`` is what ``.reqnctapercluster`` says if it is not given. ``architecture``
    ("sm_90a") decides the arithmetic of matrix units; the default is the module's ``.target``. Raises
    :class:`SimulatedFault`, :class:`CrosstileError` for a launch that does not fit the kernel, and ``NotSimulated`` for
    an instruction that the simulator does not know.
    """
    module = parse_ptx(module) if isinstance(module, str) else module
    found = _kernel(module, kernel)
    shape = _three(block, "block")
    _check_block(found, shape)
    together = _cluster(found, cluster)
    _check_arguments(found, arguments)
    program = decode(module, found)
    parameters, maps = _parameters(found, arguments)
    boxes = (one.element_bytes for one in (*maps.values(), *memory.tensor_maps.values()))
    program.granule_of_global = min(program.granule_of_global, *boxes, 4)
    counts = Counts(len(found.body))
    launch = Launch(
        _three(grid, "grid"),
        shape,
        together,
        parameters,
        maps,
        memory,
        shared_bytes,
        architecture or module.target,
        counts,
        _place_globals(module, memory),
    )
    for size, each in zip(launch.grid, launch.cluster, strict=True):
        if size % each:
            raise CrosstileError(f"a grid of {launch.grid} blocks is not whole clusters of {launch.cluster}")
    for allocation in memory.allocations:
        allocation.shadow = None
    (x, y, z), (cx, cy, cz) = launch.grid, launch.cluster
    corners = [(i, j, k) for k in range(0, z, cz) for j in range(0, y, cy) for i in range(0, x, cx)]
    for number, corner in enumerate(corners):
        running = Cluster(launch, program, corner, number)
        run_cluster(running)
        for one in running.blocks:
            try:
                finish_block(one)
            except Trouble as trouble:
                sites = [found.body[site] for site in trouble.sites]
                raise SimulatedFault(trouble.kind, f"{trouble.message} (in block {one.index})", *sites) from trouble
            counts.warps += one.warps
            counts.blocks += 1
    return Report(module, found, counts, launch, program.shared_bytes)


def _kernel(module: Module, name: str) -> Kernel:
    found = module.functions.get(name)
    if found is None or not found.is_entry:
        known = module.kernels()
        raise CrosstileError(f"the module has no kernel '{name}'{did_you_mean(name, known)}; it has {', '.join(known)}")
    return found


def _three(sizes: Sequence[int], what: str) -> Three:
    x, y, z = (*sizes, 1, 1)[:3]
    if min(x, y, z) < 1 or len(sizes) > 3:
        raise CrosstileError(f"a {what} of {tuple(sizes)}; it has one to three sizes, each at least 1")
    return x, y, z


def _check_block(kernel: Kernel, block: Three) -> None:
    threads = block[0] * block[1] * block[2]
    if threads > 1024:
        raise CrosstileError(f"a block of {threads} threads; the most is 1024")
    if (required := kernel.directives.get("reqntid")) is not None:
        wanted = (*required, 1, 1)[:3]
        if wanted != block:
            raise CrosstileError(f"kernel '{kernel.name}' requires blocks of {wanted} threads, not {block}")
    most = kernel.directives.get("maxntid")
    if most is not None and threads > int(np.prod(most)):
        raise CrosstileError(f"kernel '{kernel.name}' allows at most {int(np.prod(most))} threads, not {threads}")


def _cluster(kernel: Kernel, given: Sequence[int] | None) -> Three:
    """The blocks of a cluster, which a launch and the kernel may both say."""
    required = kernel.directives.get("reqnctapercluster")
    found = _three(given or required or (1, 1, 1), "cluster")
    if required is not None and found != _three(required, "cluster"):
        raise CrosstileError(f"kernel '{kernel.name}' requires clusters of {_three(required, 'cluster')}, not {found}")
    return found


def _check_arguments(kernel: Kernel, arguments: Sequence[Argument]) -> None:
    if len(arguments) != len(kernel.parameters):
        raise CrosstileError(
            f"kernel '{kernel.name}' has {len(kernel.parameters)} parameters, not {len(arguments)}: "
            + ", ".join(
                f"{one.name} (.{one.type}{f'[{one.count}]' if one.count > 1 else ''})" for one in kernel.parameters
            )
        )


def _parameters(kernel: Kernel, arguments: Sequence[Argument]) -> tuple[NDArray[np.uint8], dict[int, TensorMap]]:
    offsets, size = parameter_layout(kernel)
    data = np.zeros(-(-size // 16) * 16 + 16, np.uint8)
    maps: dict[int, TensorMap] = {}
    for parameter, argument in zip(kernel.parameters, arguments, strict=True):
        offset = offsets[parameter.name]
        if isinstance(argument, TensorMap):
            if parameter.bytes != 128:
                raise CrosstileError(f"parameter '{parameter.name}' has {parameter.bytes} bytes, a tensor map has 128")
            maps[offset] = argument
        else:
            encoded = _encode(parameter, argument)
            data[offset : offset + len(encoded)] = np.frombuffer(encoded, np.uint8)
    return data, maps


def _encode(parameter: Parameter, argument: int | float) -> bytes:
    if parameter.count != 1:
        raise CrosstileError(f"parameter '{parameter.name}' has {parameter.bytes} bytes, it cannot be {argument!r}")
    if parameter.type == "f64" or (parameter.type == "b64" and isinstance(argument, float)):
        return struct.pack("<d", argument)
    if parameter.type == "f32" or (parameter.type in ("b32", "u32") and isinstance(argument, float)):
        return struct.pack("<f", argument)
    if isinstance(argument, float):
        raise CrosstileError(f"parameter '{parameter.name}' is .{parameter.type}, it cannot be {argument!r}")
    bits = 8 * parameter.bytes
    if not -(1 << (bits - 1)) <= argument < 1 << bits:
        raise CrosstileError(f"{argument} does not fit parameter '{parameter.name}' of .{parameter.type}")
    return (int(argument) % (1 << bits)).to_bytes(bits // 8, "little")


def _place_globals(module: Module, memory: GlobalMemory) -> dict[str, int]:
    places: dict[str, int] = {}
    for variable in module.globals:
        if variable.space in ("global", "const"):
            data = np.zeros(max(1, variable.bytes), np.uint8)
            initial = np.frombuffer(variable.initial or b"", np.uint8)
            data[: len(initial)] = initial
            places[variable.name] = memory.allocate(data, variable.name)
            memory.allocations[-1].read_only = variable.space == "const"
    return places
