"""The arguments of a program from the command line: arrays from a file, or random ones of given sizes.

``--inputs in.npz`` holds one array per argument, named as the argument (``%x`` is ``x``) or ``arr_0``, ``arr_1`` ... in
their order. ``--random SEED`` makes arrays of the program's types, with ``--dim N=17`` for each ``?``::

    crosstile run program.mlir --random 0 --dim M=1000 --dim N=999 --dim K=1001

Random floats are standard normal, integers from -8 to 8; every argument has its own stream of numbers, so changing one
argument leaves the others.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from crosstile.ir.diagnostics import op_error
from crosstile.ir.dimensions import Dim, shapes_of
from crosstile.ir.registry import did_you_mean
from crosstile.targets.x86.available import require_memory
from crosstile.targets.x86.launch import ArgumentRule, Array, dtype_called, plain
from crosstile.tools.command_line import ArgumentParser, UsageError

if TYPE_CHECKING:
    from crosstile.tools.program import Program

MOST_BYTES = 1 << 40
"""Sizes that no machine has memory for are refused before NumPy tries."""


def add_input_flags(parser: ArgumentParser) -> None:
    """The flags that ``program_inputs`` reads."""
    parser.add_argument("--inputs", metavar="FILE.npz", help="read the arguments from this file, by name or arr_0, ...")
    parser.add_argument("--random", metavar="SEED", help="use random arguments (the default, with seed 0)")
    parser.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="the size of a dynamic dimension of random arguments; may be given several times",
    )


@dataclass(frozen=True)
class Parameters:
    """What a program takes: the name and the rule of each input, and the names of their dimensions. Plain data."""

    function: str
    names: list[str]
    rules: list[ArgumentRule]
    dims: list[Dim]

    @classmethod
    def of(cls, program: Program) -> Parameters:
        """The parameters of ``program``; a CrosstileError if one is no tensor."""
        from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType, TensorType
        from xdsl.ir import Attribute
        from xdsl.utils.hints import isa

        from crosstile.dialects.element_types import dtype_of
        from crosstile.dialects.host import host_signature, is_host
        from crosstile.dialects.nn.dims import argument_dims
        from crosstile.tools.program import find_function

        function = find_function(program.at(program.start), program.entry)
        types = list(function.function_type.inputs)
        if is_host(function):
            types = types[: len(host_signature(function).inputs)]
        names: list[str] = []
        rules: list[ArgumentRule] = []
        for position, type_ in enumerate(types):
            names.append(function.body.block.args[position].name_hint or f"arr_{position}")
            if not isa(type_, TensorType[Attribute] | MemRefType[Attribute]):
                raise op_error(
                    function,
                    f"argument %{names[-1]} of @{program.entry} is a {type_}: programs take tensors; "
                    "pass a scalar as a tensor of rank 0",
                )
            shape = tuple(None if size == DYNAMIC_INDEX else size for size in type_.get_shape())
            rules.append(ArgumentRule(f"'{names[-1]}'", dtype_of(type_.element_type), shape))
        dims = [dim for dim in argument_dims(function) if dim.argument < len(types)]
        return cls(program.entry, names, rules, dims)

    def to_json(self) -> dict[str, Any]:
        """What ``json.dumps`` takes, and ``from_json`` makes parameters of."""
        rules = [(rule.dtype.name, rule.shape) for rule in self.rules]
        return {"function": self.function, "names": self.names, "rules": rules, "dims": [astuple(d) for d in self.dims]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Parameters:
        """The parameters that ``to_json`` described; a KeyError, TypeError or ValueError for what it did not."""
        names = list(data["names"])
        rules = [
            ArgumentRule(f"'{name}'", dtype_called(dtype), tuple(shape))
            for name, (dtype, shape) in zip(names, data["rules"], strict=True)
        ]
        return cls(data["function"], names, rules, [Dim(*dim) for dim in data["dims"]])


def program_inputs(arguments: argparse.Namespace, parameters: Parameters) -> list[Array]:
    """One array per argument of a program; a CrosstileError for flags or files that do not fit it."""
    if arguments.inputs is None:
        seed = _number("--random", "0" if arguments.random is None else arguments.random)
        return random_inputs(parameters, _sizes(arguments.dim), seed)
    for flag, given in (("--random", arguments.random is not None), ("--dim", bool(arguments.dim))):
        if given:
            raise UsageError(f"--inputs and {flag} cannot be combined: the arrays of the file say all")
    return _fit(arguments.inputs, _load(arguments.inputs), parameters)


def _sizes(flags: Sequence[str]) -> dict[str, int]:
    """The sizes that ``--dim NAME=SIZE`` gives."""
    sizes: dict[str, int] = {}
    for text in flags:
        name, equals, size = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--dim needs a name and a size, as in --dim N=17, found '{text}'")
        if name in sizes:
            raise UsageError(f"--dim: the size of '{name}' is given twice")
        sizes[name] = _number(f"--dim {name}", size)
    return sizes


def _number(what: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{what} needs a number from 0, found '{text}'")
    return int(text)


def random_inputs(parameters: Parameters, sizes: Mapping[str, int], seed: int) -> list[Array]:
    """Random arrays with ``sizes`` for the dynamic dimensions."""
    found: list[Array] = []
    arguments = range(len(parameters.rules))
    shapes = shapes_of(parameters.dims, arguments, sizes, parameters.function)
    for position, shape in shapes.items():
        _refuse_huge(parameters.rules[position], shape)
    needed = sum(prod(shape) * parameters.rules[position].dtype.itemsize for position, shape in shapes.items())
    require_memory(needed, "the arguments")
    for position, shape in shapes.items():
        rule = parameters.rules[position]
        random = np.random.default_rng([seed, position])
        if rule.dtype.kind not in "biu":
            array = np.asarray(random.standard_normal(shape, np.float64 if rule.dtype.itemsize > 4 else np.float32))
        elif rule.dtype.kind == "b":
            array = np.asarray(random.integers(0, 2, shape))
        else:
            array = np.asarray(random.integers(-8, 9, shape))
        found.append(array.astype(rule.dtype, copy=False))
    return found


def _refuse_huge(rule: ArgumentRule, shape: tuple[int, ...]) -> None:
    size = rule.dtype.itemsize
    for extent in shape:
        size *= extent
    if size > MOST_BYTES:
        raise UsageError(f"argument {rule.name} of shape {shape} would need {size / 2**30:,.0f} GiB")


# Files


def _load(path: str) -> dict[str, Array]:
    """The arrays of an ``.npz`` file by name; a UsageError for anything else."""
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UsageError(f"'{path}' holds one array; --inputs needs an .npz file (numpy.savez) of named arrays")
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            raise UsageError(f"'{path}' holds Python objects, which are not read: save plain arrays") from error
        raise UsageError(f"'{path}' is not an .npz file as numpy.savez writes it") from error


def _fit(path: str, arrays: Mapping[str, Array], parameters: Parameters) -> list[Array]:
    """The arrays in the order of the arguments, each of its argument's type and shape."""
    positional = [f"arr_{position}" for position in range(len(parameters.names))]
    names = positional if arrays and all(name.startswith("arr_") for name in arrays) else parameters.names
    needed = f"it needs {', '.join(names)}" if names else "the program takes none"
    if missing := [name for name in names if name not in arrays]:
        extra = [name for name in arrays if name not in names]
        raise UsageError(f"'{path}' has no array {_quoted(missing)}{did_you_mean(missing[0], extra)}; {needed}")
    if extra := [name for name in arrays if name not in names]:
        raise UsageError(f"'{path}' has the array {_quoted(extra)}, which is no argument; {needed}")
    return [plain(rule.check(arrays[name])) for rule, name in zip(parameters.rules, names, strict=True)]


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
