"""``crosstile simulate``: runs a kernel of a PTX file, ours or anybody's, without a GPU, with everything checked.

In: PTX text, a launch, arguments. Out: what the kernel did, and its arrays; a race, a deadlock or another fault ends
the run with the PTX line and the place in the program that it was made from. Docs: docs/simulator.md.

    crosstile simulate softmax.ptx --grid 3 --block 128 --shared 16 random:f32[3x1000] empty:f32[3x1000] 1000 1000
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.ptx.scanner import PtxSyntaxError
from crosstile.targets.nvidia.simulate import Argument, GlobalMemory, TensorMap, simulate
from crosstile.targets.nvidia.simulator.picture import kernel_picture
from crosstile.tools.command_line import ArgumentParser, UsageError, read_text, run_tool, unknown_argument, write_output

PROG = "crosstile simulate"
Array = NDArray[Any]

FORMS = """
arguments, one for every parameter of the kernel:
  7, -1, 0x10            an integer
  1.5, 1e-5              a float
  x.npy                  the address of the array in the file
  random:f32[3x1000]     the address of normal random numbers (integers: -8 to 8)
  zeros:bf16[64x64]      the address of zeros
  empty:f32[64x64]       the address of memory that nobody has written
  map:64x64:128:ARRAY    a tensor map of one of these arrays: box (rows x columns), swizzle in bytes
"""

TYPES = {
    **{f"{sign}{bits}": f"{kind}{bits}" for sign, kind in (("u", "uint"), ("s", "int")) for bits in (8, 16, 32, 64)},
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "bf16": "bfloat16",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
}
"""NumPy's (or ml_dtypes') name of each type that an argument may have."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on ``argv`` and return its exit code."""
    return run_tool(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    parser = ArgumentParser(PROG, "Run a kernel of a PTX file without a GPU and check what it does.", FORMS)
    parser.add_argument("words", nargs="*", metavar="FILE ARGUMENT", help="PTX text, and the kernel's arguments")
    parser.add_argument("--kernel", metavar="NAME", help="which, if the file has several")
    parser.add_argument("--grid", default="1", metavar="X[,Y[,Z]]", help="blocks; 1 if not given")
    parser.add_argument("--block", metavar="X[,Y[,Z]]", help="threads; what .reqntid says, else 32, if not given")
    parser.add_argument("--cluster", default="1", metavar="X[,Y[,Z]]", help="blocks of a cluster; 1 if not given")
    parser.add_argument("--shared", default="0", metavar="BYTES", help="dynamic shared memory")
    parser.add_argument("--architecture", default="", metavar="SM", help="sm_80, sm_90a; .target if not given")
    parser.add_argument("--save", metavar="FOLDER", help="write arrays after the run to FOLDER/argument_<N>.npy")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON, '-' is standard output")
    parser.add_argument(
        "--svg", metavar="FILE", help="draw the use of shared memory's banks, and the fragments of matrix instructions"
    )
    parser.add_argument("--debug", action="store_true", help="show a Python traceback with every error")
    parser.add_argument("-h", "--help", action="store_true", help="print this help and exit")
    # Negative numbers are arguments of the kernel, and those may stand behind flags.
    options, others = parser.parse_known_args([f" {one}" if re.fullmatch(r"-[\d.].*", one) else one for one in argv])
    if (flag := next((one for one in others if one.startswith("-")), None)) is not None:
        parser.error(unknown_argument(flag, parser.flags()))
    words: list[str] = [*options.words, *others]
    if options.help:
        write_output(None, parser.format_help())
        return 0
    if not words:
        parser.error("which PTX? give a file, or '-' for standard input")
    file_name, text = read_text(words[0])
    try:
        module = parse_ptx(text)
    except PtxSyntaxError as error:
        raise CrosstileError(
            error.reason, FileLineColLoc(StringAttr(file_name), IntAttr(error.line), IntAttr(1))
        ) from error
    name = cast("str | None", options.kernel) or _only_kernel(module.kernels())
    kernel = module.functions.get(name)
    required = kernel.directives.get("reqntid") if kernel is not None else None
    block = _sizes("--block", options.block) if options.block is not None else required or (32,)
    memory = GlobalMemory()
    arrays: dict[int, int] = {}
    arguments = [_argument(one.strip(), place, memory, arrays) for place, one in enumerate(words[1:], 1)]
    report = simulate(
        module,
        name,
        _sizes("--grid", options.grid),
        block,
        arguments,
        memory,
        shared_bytes=_sizes("--shared", options.shared)[0],
        cluster=_sizes("--cluster", options.cluster),
        architecture=options.architecture,
    )
    if options.save is not None:
        _save(Path(options.save), memory, arrays)
    if options.svg is not None:
        write_output(options.svg, kernel_picture(report))
    if options.json is not None:
        write_output(options.json, report.json() + "\n")
    if options.json != "-":
        write_output(None, str(report))
    return 0


def _only_kernel(names: list[str]) -> str:
    if len(names) != 1:
        raise UsageError(f"the file has {len(names)} kernels; --kernel chooses one of: {', '.join(names) or 'none'}")
    return names[0]


def _sizes(flag: str, text: str) -> tuple[int, ...]:
    if re.fullmatch(r"\d+(,\d+){0,2}", text) is None:
        raise UsageError(f"{flag} {text}: one to three whole numbers with commas between")
    return tuple(int(one) for one in text.split(","))


def _argument(text: str, place: int, memory: GlobalMemory, arrays: dict[int, int]) -> Argument:
    if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)", text):
        return int(text, 0)
    if re.fullmatch(r"-?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?|-?inf|nan", text):
        return float(text)
    box: tuple[int, ...] | None = None
    swizzle = 0
    if match := re.fullmatch(r"map:([\dx]+):(\d+):(.+)", text):
        box, swizzle, text = tuple(int(one) for one in match[1].split("x")), int(match[2]), match[3]
    array, is_written = _array(text, place)
    name = f"argument {place}"
    address = memory.allocate(array, name) if is_written else memory.empty(array.shape, array.dtype, name)
    arrays[place] = address
    if box is None:
        return address
    strides = tuple(step // array.itemsize for step in np.zeros(array.shape, array.dtype).strides)
    element = next(short for short, long in TYPES.items() if long == array.dtype.name)
    element = {"e4m3": "u8", "e5m2": "u8", "s8": "u8"}.get(element, element)
    return TensorMap.row_major(element, address, array.shape, strides, box, swizzle=swizzle)


def _array(text: str, place: int) -> tuple[Array, bool]:
    """The array that an argument describes, and whether its contents matter."""
    if text.endswith(".npy"):
        try:
            return np.load(text), True
        except (OSError, ValueError) as error:
            raise UsageError(f"argument {place}: {text}: {error}") from error
    match = re.fullmatch(r"(random|zeros|empty):(\w+)\[(\d+(?:x\d+)*)\]", text)
    if match is None:
        raise UsageError(f"argument {place} of the kernel: '{text}'").with_note(f"'{PROG} --help' lists the forms")
    dtype = _dtype(match[2], place)
    shape = tuple(int(one) for one in match[3].split("x"))
    if match[1] != "random":
        return np.zeros(shape, dtype), match[1] == "zeros"
    generator = np.random.default_rng(place)
    if dtype.kind in "iu":
        return generator.integers(0 if dtype.kind == "u" else -8, 9, shape).astype(dtype), True
    return generator.standard_normal(shape).astype(dtype), True


def _dtype(name: str, place: int) -> np.dtype[Any]:
    if name not in TYPES:
        raise UsageError(f"argument {place}: no type '{name}'; there are {', '.join(TYPES)}")
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, TYPES[name], None) or TYPES[name])


def _save(folder: Path, memory: GlobalMemory, arrays: dict[int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, address in arrays.items():
        array = memory.read(address)
        # NumPy's files know no bfloat16: float32 has every value of the short types.
        is_known = array.dtype.kind in "iufb" and array.dtype.isbuiltin == 1
        np.save(folder / f"argument_{place}.npy", array if is_known else array.astype(np.float32))


if __name__ == "__main__":
    sys.exit(main())
