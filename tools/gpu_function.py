"""A program compiled for a GPU, as a Python function: arrays on the GPU in, arrays on the GPU out, nothing waited for.

    f = crosstile.compile("examples/matmul_bf16.mlir", target="sm_90a")
    c = f(a, b)                        tensors of torch: launched on torch's current stream
    f(a, b, out=c, stream=stream)
    with torch.cuda.graph(graph):      after one call that compiled the kernels
        f(a, b, out=c)

Arrays of NumPy are copied to the GPU, and the results back, which waits for them. Where there is no GPU of the
program's architecture the simulator runs the kernels, on arrays of NumPy. Docs: docs/python.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.arrays import Given, GpuArray, current_stream, given_array, is_torch, stream_handle
from crosstile.targets.nvidia.call_plan import ALIGNMENT
from crosstile.targets.nvidia.driver import CudaDevice
from crosstile.targets.nvidia.run import DeviceProgram, call_with_arrays
from crosstile.targets.x86.launch import ArgumentRule, Array, dtype_called
from crosstile.tools.device import open_device

if TYPE_CHECKING:
    from crosstile.tools.device_code import DeviceCode

ALIGNED = 16
"""Bytes; what kernels are compiled for. An array elsewhere is copied to where it is."""
assert ALIGNMENT % ALIGNED == 0


class GpuFunction:
    """A program compiled for ``code.machine``, a GPU: call it with one array per argument.

    ``device`` runs it, which ``where`` says in a few words. ``operations``: so many will be asked for, see
    ``open_device``.
    """

    def __init__(self, code: DeviceCode, operations: int = 0):
        self.device, self.where = open_device(code.machine, operations)
        self._code = code
        self._run = DeviceProgram(code, code, self.device)
        signature = self._run.signature
        self._inputs = [ArgumentRule.of(*pair) for pair in zip(signature.names, signature.inputs, strict=True)]
        self._results = [ArgumentRule.of(f"out: result {at}", one) for at, one in enumerate(signature.results)]

    def __call__(self, *arguments: object, out: Any = None, stream: object = None) -> Any:
        """The results: an array, or a tuple of several.

        Arguments are row-major arrays of exactly the program's element types and shapes: on this GPU (tensors of torch,
        objects with DLPack or CUDA's array interface, :class:`GpuArray`), where they are read as they lie, or on the
        host. ``out`` is an array, or a tuple of one per result, to write to. The work is put on ``stream``: a handle of
        the driver or a stream of torch, cupy or cuda.core; by default torch's current one if an argument is a tensor of
        torch on the GPU, else the default stream. Results are of the first GPU argument's kind; if all arguments are on
        the host they are NumPy's. Raises CrosstileError for an argument that does not fit, saying which.
        """
        if len(arguments) != len(self._inputs):
            expected = ", ".join(f"{rule.name}: {rule}" for rule in self._inputs)
            name = self._run.signature.name
            raise CrosstileError(f"@{name} takes {len(self._inputs)} arguments ({expected}), found {len(arguments)}")
        outputs = self._given_outputs(out)
        handle = self._stream(stream, [*arguments, *outputs])
        given = [self._given(*pair, handle) for pair in zip(self._inputs, arguments, strict=True)]
        if not any(isinstance(one, Given) for one in given) and not any(_is_on_gpu(one) for one in outputs):
            return self._call_on_host(cast("list[Array]", given), outputs, handle)
        with self.device.entered():
            found = self._call_on_gpu(given, outputs, handle)
        return found[0] if len(found) == 1 else tuple(found)

    def to_device(self, array: Array) -> GpuArray:
        """A copy of an array of NumPy on the GPU."""
        contiguous = np.ascontiguousarray(array)
        found = GpuArray(self.device, contiguous.shape, contiguous.dtype.name)
        with self.device.entered():
            self.device.write(found.address, contiguous)
            self.device.synchronize()
        return found

    def time(self, *arguments: object, repeat: int = 20, stream: object = None) -> list[float]:
        """The GPU's own seconds of each of ``repeat`` calls, after one that is not timed, by events.

        Raises CrosstileError in the simulator, whose time says nothing of a GPU's.
        """
        device = self.device
        if not isinstance(device, CudaDevice):
            raise CrosstileError(f"only calls on a GPU are timed; here kernels are {self.where}")
        handle = self._stream(stream, arguments)
        on_device = [self.to_device(cast("Array", one)) if isinstance(one, np.ndarray) else one for one in arguments]
        results = self(*on_device, stream=handle)
        with device.entered():
            times = device.seconds(lambda: self(*on_device, out=results, stream=handle), repeat, handle)
            device.synchronize(handle)
        return times

    @property
    def kernels(self) -> list[str]:
        """The names of the kernels that calls have needed so far."""
        return self._code.needed

    @property
    def compile_seconds(self) -> dict[str, float]:
        """The seconds each phase of the compilation took so far; "cache" is what reading the cache took."""
        return self._code.seconds

    # Arguments and results

    def _stream(self, stream: object, arguments: Sequence[object]) -> int:
        if stream is not None:
            return stream_handle(stream)
        return next((current_stream(one) for one in arguments if is_torch(one) and cast("Any", one).is_cuda), 0)

    def _given(self, rule: ArgumentRule, value: object, stream: int) -> Given | Array:
        """An argument, checked: on the GPU, or a contiguous array of NumPy."""
        given = given_array(value, stream, self._wait_for)
        if given is None:
            return np.asarray(rule.check(_host_array(value) if is_torch(value) else value), order="C")
        if not isinstance(self.device, CudaDevice) and not isinstance(given.owner, GpuArray):
            raise CrosstileError(f"{rule.name} is on a GPU, and kernels are {self.where}; give an array on the host")
        return self._checked(rule, given)

    def _checked(self, rule: ArgumentRule, given: Given) -> Given:
        fits = len(given.shape) == len(rule.shape) and all(
            size in (None, found) for size, found in zip(rule.shape, given.shape, strict=True)
        )
        if given.dtype != rule.dtype.name or not fits:
            raise CrosstileError(f"{rule.name}: expected {rule}, found {given.dtype} of shape {given.shape}")
        if not given.is_contiguous:
            raise CrosstileError(f"{rule.name} is not row-major and contiguous on the GPU: give x.contiguous()")
        ordinal = getattr(self.device, "ordinal", 0)
        if given.device != ordinal:
            raise CrosstileError(
                f"{rule.name} is on GPU {given.device}, and the function was compiled for GPU {ordinal}"
            )
        return given

    def _wait_for(self, stream: int) -> None:
        with self.device.entered():
            self.device.synchronize(stream)

    def _given_outputs(self, out: Any) -> list[object]:
        if out is None:
            return []
        outputs: list[object] = list(cast("Sequence[object]", out)) if isinstance(out, tuple | list) else [out]
        if len(outputs) != len(self._results):
            expected = "1 array" if len(self._results) == 1 else f"{len(self._results)} arrays"
            raise CrosstileError(f"out: expected {expected}, found {len(outputs)}")
        return outputs

    def _call_on_host(self, inputs: list[Array], outputs: list[object], stream: int) -> Any:
        results = call_with_arrays(self._run, inputs, stream)
        for rule, result, output in zip(self._results, results, outputs, strict=False):
            array = ArgumentRule(rule.name, rule.dtype, result.shape).check(output)
            if array is not output or not array.flags.writeable:
                raise CrosstileError(f"{rule.name} must be a writeable array of NumPy")
            array[...] = result
        found = outputs or results
        return found[0] if len(found) == 1 else tuple(found)

    def _call_on_gpu(self, inputs: list[Given | Array], outputs: list[object], stream: int) -> list[object]:
        device, shapes = self.device, tuple(one.shape for one in inputs)
        self._run.plan(shapes)
        result_shapes = self._run.signature.shapes_of_results(shapes)
        found = outputs or [
            self._new_result(*pair, inputs, stream) for pair in zip(result_shapes, self._results, strict=True)
        ]
        results = [self._result(*row, stream) for row in zip(self._results, result_shapes, found, strict=True)]
        taken: list[int] = []
        kept: list[Array] = []

        def take(size: int) -> int:
            taken.append(device.allocate(size, stream))
            return taken[-1]

        try:
            addresses = [self._input_address(one, take, kept, stream) for one in inputs]
            spans = [_span(one) for one in inputs if isinstance(one, Given)]
            places: list[int] = []
            for at, result in enumerate(results):
                others = [*spans, *(_span(one) for one in results[:at])]
                is_usable = result.address % ALIGNED == 0 and not any(_overlap(_span(result), one) for one in others)
                places.append(result.address if is_usable else take(_bytes(result)))
            self._run.run(shapes, addresses, places, stream)
            for place, result in zip(places, results, strict=True):
                if place != result.address:
                    device.copy(place, result.address, _bytes(result), stream)
            if kept:
                device.synchronize(stream)  # NumPy's memory may be freed or written to after the call
        finally:
            for address in taken:
                device.release(address, stream)
        return found

    def _input_address(self, one: Given | Array, take: Callable[[int], int], kept: list[Array], stream: int) -> int:
        if isinstance(one, Given):
            if one.address % ALIGNED == 0 or not _bytes(one):
                return one.address
            address = take(_bytes(one))
            self.device.copy(one.address, address, _bytes(one), stream)
            return address
        if self.device.is_capturing(stream):
            raise CrosstileError("a call that is captured into a graph takes arrays on the GPU, found one of NumPy")
        address = take(one.nbytes)
        self.device.write(address, one, stream)
        kept.append(one)
        return address

    def _new_result(
        self, shape: tuple[int, ...], rule: ArgumentRule, inputs: Sequence[Given | Array], stream: int
    ) -> object:
        first = next((one for one in inputs if isinstance(one, Given)), None)
        if first is not None and first.like is not None:
            return first.like(shape, rule.dtype.name)
        return GpuArray(self.device, shape, rule.dtype.name, stream)

    def _result(self, rule: ArgumentRule, shape: tuple[int, ...], value: object, stream: int) -> Given:
        given = given_array(value, stream, self._wait_for)
        if given is None:
            raise CrosstileError(f"{rule.name} must be on the GPU as the arguments are, found a {type(value).__name__}")
        return self._checked(ArgumentRule(rule.name, rule.dtype, shape), given)


def _is_on_gpu(value: object) -> bool:
    return given_array(value, 0, lambda _: None) is not None


def _host_array(tensor: Any) -> Array:
    """A tensor of torch on the host as an array, of types that NumPy lacks too."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name in np.sctypeDict:
        return tensor.detach().numpy()
    integers = {1: "int8", 2: "int16"}[tensor.element_size()]
    dtype = getattr(sys.modules["torch"], integers)
    return tensor.detach().contiguous().view(dtype).numpy().view(dtype_called(name))


def _bytes(given: Given) -> int:
    return prod(given.shape) * dtype_called(given.dtype).itemsize


def _span(given: Given) -> tuple[int, int]:
    return given.address, given.address + _bytes(given)


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
