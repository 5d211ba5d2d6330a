"""How a kernel is launched: its grid, block, shared memory, parameters and tensor maps, from the arrays it is given.

Level: run time. In: a :class:`KernelPlan`, which the compiler wrote as attributes of the kernel's function and which
needs no compiler to be used, and the arrays on the device. Out: a :class:`Launch` for the driver or the simulator::

    llvm.func @gemm(...) attributes {nvvm.kernel, nvvm.reqntid = array<i32: 384>, crosstile.target = "sm_90a",
        crosstile.shared = 196608, crosstile.alignment = 16,
        crosstile.grid = [{from = 0, to = [1, 1], step = 256}, ...],
        crosstile.arguments = [[0, "pointer", 0], [0, "size", 0], ...],
        crosstile.tensor_maps = [{argument = 0, element = bf16, sizes = [[0, 0], [0, 1]], box = [128, 64], ...}, ...]}

    plan_of(function).launch([DeviceArray(...), ...], processors=132)
    -> Launch("gemm", grid=(4, 8, 1), block=(384, 1, 1), shared_bytes=196608, arguments=(address, 1000, ...))

A size is a number, or ``(argument, dimension)``: that size of that array, or with dimension -1 the argument itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, cast

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.tensor_map import TensorMap

if TYPE_CHECKING:
    from xdsl.dialects.llvm import FuncOp

Size = int | tuple[int, int]

MOST_BLOCKS = ((1 << 31) - 1, 65535, 65535)
"""Blocks of a grid along x, y and z (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability")."""

_TENSOR_ELEMENTS = {
    "bf16": "bf16",
    "f16": "f16",
    "f32": "f32",
    "f64": "f64",
    "i8": "u8",
    "i16": "u16",
    "i32": "s32",
    "i64": "s64",
    "f8E4M3FN": "u8",
    "f8E5M2": "u8",
}
"""What tensor maps call MLIR's element types; copies move bits."""


@dataclass(frozen=True)
class DeviceArray:
    """A memref on the device: the address of its first element, its sizes, and strides in elements."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element_bytes: int


Argument = DeviceArray | int | float


@dataclass(frozen=True)
class Launch:
    """One launch, ready for the driver.

    ``types`` are those of the arguments: ``ptr``, ``i32``, ``f32`` ..., and ``tensor_map`` for one passed by value.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[int | float | TensorMap, ...]
    types: tuple[str, ...]


@dataclass(frozen=True)
class GridDimension:
    """As many blocks as steps are needed from ``begin`` to ``end``, and whole clusters of so many of them."""

    begin: Size
    end: Size
    step: int
    cluster: int = 1


@dataclass(frozen=True)
class TensorMapRecipe:
    """The tensor map of one array: sizes and box are outermost first, ``swizzle`` in bytes.

    ``steps`` are the distances of a box's elements along each dimension, 1 where there are none.
    """

    argument: int
    element: str
    sizes: tuple[Size, ...]
    box: tuple[int, ...]
    swizzle: int
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class KernelPlan:
    """What is known of a kernel before its arguments are.

    ``grid`` has its dimensions innermost first: x and y, or all along x if there are more than two. Without any, a
    kernel shares its work among as many blocks as there are processors. ``parameters`` are (argument, "pointer" |
    "size" | "stride" | "value", dimension) of ``types``; the tensor maps follow. Addresses and strides in bytes must
    be multiples of ``alignment``. With ``persistent`` no more blocks than that are launched for each processor, all
    along x, and share the grid out among themselves. Blocks of clusters are along x as well.
    """

    name: str
    target: str
    threads: int
    shared_bytes: int
    alignment: int
    grid: tuple[GridDimension, ...]
    parameters: tuple[tuple[int, str, int], ...]
    types: tuple[str, ...]
    tensor_maps: tuple[TensorMapRecipe, ...]
    persistent: int | None = None

    def to_json(self) -> dict[str, Any]:
        """What ``json.dumps`` takes, and ``from_json`` makes a plan of."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KernelPlan:
        """The plan that ``to_json`` described; a KeyError, TypeError or ValueError for what it did not."""
        plan = cls(**{**data, **{key: _tuples(data[key]) for key in ("grid", "parameters", "types", "tensor_maps")}})
        return replace(
            plan,
            grid=tuple(GridDimension(**row) for row in cast("Any", plan.grid)),
            tensor_maps=tuple(TensorMapRecipe(**row) for row in cast("Any", plan.tensor_maps)),
        )

    def launch(self, arguments: Sequence[Argument], processors: int) -> Launch | None:
        """The launch on ``arguments``, one per argument of the kernel; None if the grid is empty.

        Raises :class:`CrosstileError` for an array that is not aligned as the kernel was compiled for, and for more
        blocks than a grid may have.
        """
        counts = [self._blocks(dimension, arguments) for dimension in self.grid] or [processors]
        if 0 in counts:
            return None
        cluster = prod(dimension.cluster for dimension in self.grid)
        if self.persistent is not None or cluster > 1:
            most = MOST_BLOCKS[0] if self.persistent is None else processors * self.persistent
            counts = [min(prod(counts), max(1, most // cluster)) * cluster]
        elif len(counts) > 2:
            counts = [prod(counts)]  # only x is long enough for what several dimensions make together
        for axis, count, most in zip("xyz", counts, MOST_BLOCKS, strict=False):
            if count > most:
                raise CrosstileError(
                    f"kernel '{self.name}' needs {count} blocks along {axis}; a grid has {most} at most"
                )
        self._check_alignment(arguments)
        values: list[int | float | TensorMap] = [self._parameter(*what, arguments) for what in self.parameters]
        values += [self._tensor_map(recipe, arguments) for recipe in self.tensor_maps]
        x, y, z = (*counts, 1, 1)[:3]
        types = (*self.types, *["tensor_map"] * len(self.tensor_maps))
        return Launch(self.name, (x, y, z), (self.threads, 1, 1), self.shared_bytes, tuple(values), types)

    def _blocks(self, dimension: GridDimension, arguments: Sequence[Argument]) -> int:
        extent = _size(dimension.end, arguments) - _size(dimension.begin, arguments)
        return max(0, -(-extent // (dimension.step * dimension.cluster)))

    def _check_alignment(self, arguments: Sequence[Argument]) -> None:
        for number, array in enumerate(arguments):
            if not isinstance(array, DeviceArray) or 0 in array.shape:
                continue
            steps = [
                stride * array.element_bytes
                for stride, size in zip(array.strides, array.shape, strict=True)
                if size > 1
            ]
            for what, value in (("address", array.address), *(("stride", step) for step in steps[:-1])):
                if value % self.alignment:
                    raise CrosstileError(
                        f"kernel '{self.name}' was compiled for arrays aligned to {self.alignment} bytes; argument "
                        f"{number} has {'an' if what == 'address' else 'a'} {what} of {value} bytes"
                    )

    def _parameter(self, number: int, kind: str, dimension: int, arguments: Sequence[Argument]) -> int | float:
        argument = arguments[number]
        if not isinstance(argument, DeviceArray):
            return argument
        return {
            "pointer": lambda: argument.address,
            "size": lambda: argument.shape[dimension],
            "stride": lambda: argument.strides[dimension],
        }[kind]()

    def _tensor_map(self, recipe: TensorMapRecipe, arguments: Sequence[Argument]) -> TensorMap:
        array = arguments[recipe.argument]
        assert isinstance(array, DeviceArray), f"{self.name}: a tensor map of what is no array"
        sizes = [_size(size, arguments) for size in recipe.sizes]
        # An array without elements is never copied, but no map has a size of 0; its strides are then 0 as well.
        outer = [max(stride, 16) if 0 in sizes else stride for stride in array.strides[:-1]]
        try:
            return TensorMap.row_major(
                _TENSOR_ELEMENTS[recipe.element],
                array.address,
                [max(1, size) for size in sizes],
                [*outer, *array.strides[-1:]],
                recipe.box,
                steps=recipe.steps,
                swizzle=recipe.swizzle,
            )
        except CrosstileError as error:
            raise error.with_note(f"it is of argument {recipe.argument} of kernel '{self.name}'") from error


def _tuples(data: Any) -> Any:
    """JSON's lists as tuples."""
    if isinstance(data, list):
        return tuple(map(_tuples, cast("list[Any]", data)))
    if isinstance(data, dict):
        return {key: _tuples(value) for key, value in cast("dict[str, Any]", data).items()}
    return data


def _size(size: Size, arguments: Sequence[Argument]) -> int:
    if isinstance(size, int):
        return size
    number, dimension = size
    argument = arguments[number]
    if isinstance(argument, DeviceArray):
        return argument.shape[dimension]
    return int(argument)


def plan_of(function: FuncOp) -> KernelPlan:
    """The plan that ``mma-to-nvvm`` left on a kernel's function, as in the module's docstring.

    Raises :class:`CrosstileError` naming the attribute that is missing.
    """
    found = dict(function.attributes)
    name = function.sym_name.data

    def take(key: str) -> Any:
        if key not in found:
            raise CrosstileError(f"kernel '{name}' has no attribute '{key}'; is it the result of mma-to-nvvm?")
        return _plain(found[key])

    return KernelPlan(
        name=name,
        target=take("crosstile.target"),
        threads=take("nvvm.reqntid")[0],
        shared_bytes=take("crosstile.shared"),
        alignment=take("crosstile.alignment"),
        grid=tuple(
            GridDimension(row["from"], row["to"], row["step"], row.get("cluster", 1)) for row in take("crosstile.grid")
        ),
        parameters=(parameters := take("crosstile.arguments")),
        types=tuple(map(_type_name, list(function.function_type.inputs)[: len(parameters)])),
        tensor_maps=tuple(TensorMapRecipe(**row) for row in take("crosstile.tensor_maps")),
        persistent=take("crosstile.persistent") if "crosstile.persistent" in found else None,
    )


def _type_name(type_: object) -> str:
    """``ptr`` for an address, else the type's text."""
    text = str(type_)
    return "ptr" if text.startswith("!llvm.ptr") else text


def _plain(attribute: Any) -> Any:
    """An attribute as Python numbers, strings, tuples and dictionaries; types are their text."""
    from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, DictionaryAttr, IntegerAttr, StringAttr

    match attribute:
        case IntegerAttr():
            return cast("IntegerAttr[Any]", attribute).value.data
        case StringAttr():
            return attribute.data
        case ArrayAttr():
            return tuple(_plain(element) for element in cast("ArrayAttr[Any]", attribute).data)
        case DictionaryAttr():
            return {key: _plain(value) for key, value in attribute.data.items()}
        case DenseArrayBase():
            return tuple(cast("DenseArrayBase[Any]", attribute).get_values())
        case _:
            return str(attribute)
