"""A program on its way down the levels: load it, take it to a level, compile it for a CPU.

Commands and the Python interface share this: ``Program.load`` parses and verifies once, ``at(level)`` gives the module
at a level (each step is run once), ``compile`` makes it callable::

    program = Program.load("examples/matmul.mlir", target="host")
    print(print_module(program.at("tile")))
    function = program.compile()
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from crosstile.dialects.host import INPUTS, host_signature, is_host
from crosstile.dialects.mma.kernel import KernelOp
from crosstile.dialects.tile.launch import KERNELS
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError, op_error
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_pass, run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.registry import did_you_mean
from crosstile.ir.start_up import paused_collector
from crosstile.ir.verification import verify_module
from crosstile.lowering.split_kernels import certain_launches, split_kernels
from crosstile.targets.cpu_pipeline import LEVELS
from crosstile.targets.host import default_target, missing_features
from crosstile.targets.model import Machine, machine
from crosstile.targets.x86.launch import Compiled, HostFunction
from crosstile.targets.x86.linking import ProgramCode
from crosstile.targets.x86.run import compile_module
from crosstile.tools.command_line import read_source
from crosstile.tools.targets import check_kernels, find_machine, pipeline_of

COMPILED_LEVELS = LEVELS[: LEVELS.index("mma") + 1]
"""The levels at which a program that is compiled may start."""

Source = str | os.PathLike[str] | ModuleOp
"""A path, the text of a program (anything with a line break or a brace), or a module."""


def check_level(level: str) -> None:
    """Raise a CrosstileError for a level that there is not."""
    if level not in LEVELS:
        raise CrosstileError(f"unknown level '{level}'{did_you_mean(level, list(LEVELS))}; levels: {', '.join(LEVELS)}")


@dataclass
class Program:
    """A module that starts at level ``start``, bound for ``machine``. ``entry`` is the function to run.

    ``seconds`` are the phases so far: reading the text, then each pass by name. ``text`` is what the program was read
    from, None for one that was a module or was changed since. ``bound``: its weights are packed ahead of calls.
    """

    source: str
    context: Context
    machine: Machine
    start: str
    entry: str
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    text: str | None = None
    bound: bool = False
    _modules: dict[str, ModuleOp] = field(default_factory=dict[str, ModuleOp])

    @classmethod
    def load(
        cls, source: Source, target: str | None = None, start: str = "nn", entry: str | None = None, bound: bool = False
    ) -> Program:
        """Parse and verify ``source``: a path, text (anything with a line break or ``{``), or a module."""
        if not isinstance(source, ModuleOp):
            return cls.of_text(*read_source(source), target, start, entry, bound)
        check_level(start)
        machine, begin = find_machine(default_target() if target is None else target), perf_counter()
        program = cls._of_module("<module>", source.clone(), make_context(), machine, start, entry, begin)
        program.bound = bound
        return program

    @classmethod
    def of_text(
        cls,
        name: str,
        text: str,
        target: str | None = None,
        start: str = "nn",
        entry: str | None = None,
        bound: bool = False,
    ) -> Program:
        """Parse and verify ``text``, which messages call ``name``."""
        check_level(start)
        machine, context, begin = (
            find_machine(default_target() if target is None else target),
            make_context(),
            perf_counter(),
        )
        program = cls._of_module(name, parse_module(text, name, context), context, machine, start, entry, begin)
        program.text, program.bound = text, bound
        return program

    @classmethod
    def _of_module(
        cls,
        name: str,
        module: ModuleOp,
        context: Context,
        machine: Machine,
        start: str,
        entry: str | None,
        begin: float,
    ) -> Program:
        verify_module(module)
        check_kernels(module, machine)
        alone = machine.warp_lanes is not None and entry is None
        program = cls(name, context, machine, start, _entry(module, entry, alone), {"read": perf_counter() - begin})
        program._modules[start] = module
        return program

    def at(self, level: str) -> ModuleOp:
        """The module at ``level``; the caller must not change it."""
        check_level(level)
        if LEVELS.index(level) < LEVELS.index(self.start):
            raise CrosstileError(f"a program that starts at level {self.start} has no level {level}")
        if level not in pipeline_of(self.machine).LEVELS:
            raise CrosstileError(f"a program for {self.machine.name} has no level {level}")
        if level not in self._modules:
            for _, module in self.trace(level):
                self._modules[level] = module
        return self._modules[level]

    def trace(self, level: str) -> Iterator[tuple[str, ModuleOp]]:
        """Each pass on the way to ``level`` from the one above, with the module it left, verified.

        It is one module, rewritten in place: look at it before taking the next.
        """
        module = self.at(LEVELS[LEVELS.index(level) - 1]).clone()
        for module_pass in self._passes(level):
            with self._timed(module_pass.name):
                run_passes(self.context, module, [module_pass])
            yield module_pass.name, module

    def replace(self, level: str, module: ModuleOp) -> None:
        """Go on with ``module`` as the program at ``level``; the levels below follow from it."""
        check_level(level)
        verify_module(module)
        self._modules = {
            known: kept for known, kept in self._modules.items() if LEVELS.index(known) < LEVELS.index(level)
        }
        self._modules[level] = module
        self.text = None

    def compile(self) -> Compiled:
        """Take the program from the lowest level it was taken to so far to machine code, and load it.

        Kernels that only some sizes choose are compiled when a call has such sizes. The module was verified when it was
        read, and LLVM verifies what becomes of it: ours looks only at what LLVM refuses, to name the operation.
        """
        self._check_runs_here()
        module = self._at_mma()
        host = find_host(module, self.entry)
        signature, certain = host_signature(host), certain_launches(host)
        kernels = split_kernels(module)
        code = ProgramCode(self._object(module), {}, set(kernels), lambda name: self._object(kernels.pop(name)))
        code.complete(certain)
        begin = perf_counter()
        function = HostFunction(signature, code)
        self.seconds["load"] = perf_counter() - begin
        return Compiled(function, self.seconds, code)

    def compile_kernel(self, name: str) -> bytes:
        """The object code of one of the kernels that ``compile`` may have left out."""
        return self._object(split_kernels(self._at_mma())[name])

    def _check_runs_here(self) -> None:
        """Raise a CrosstileError if code for the program cannot be made, or does not run in this process."""
        if self.start not in COMPILED_LEVELS:
            raise CrosstileError(
                f"a program that starts at level {self.start} cannot be compiled: {', '.join(COMPILED_LEVELS)} can"
            )
        if self.machine.warp_lanes is not None:
            raise CrosstileError(
                f"code for {self.machine.name} runs on a GPU or in the simulator: 'crosstile run --target "
                f"{self.machine.name}' does so"
            )
        if missing := missing_features(self.machine):
            raise CrosstileError(
                f"code for {self.machine.name} does not run on this machine, which lacks {', '.join(missing)}; "
                "'crosstile-translate' writes it as text or as an object file"
            )

    def _at_mma(self) -> ModuleOp:
        """The module at the level ``mma``, from the lowest level that it was taken to so far; the caller's own."""
        lowest = next(level for level in reversed(COMPILED_LEVELS) if level in self._modules)
        module = self._modules[lowest].clone()
        self._lower(module, lowest, "tile")
        find_host(module, self.entry)  # a program without one is told so before its other functions are refused
        self._lower(module, max(lowest, "tile", key=LEVELS.index), "mma")
        return module

    def _object(self, module: ModuleOp) -> bytes:
        """The object code of a part of the program at the level ``mma``; changes the module."""
        with paused_collector():
            self._lower(module, "mma", "llvm")
            try:
                compiled = compile_module(module, self.machine)
            except Exception:
                verify_module(module)
                raise
        for phase, seconds in compiled.seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
        return compiled.code

    def lowered(self) -> ModuleOp:
        """The module at the machine's last level, verified at the end only."""
        module = self._modules[self.start].clone()
        with paused_collector():
            self._lower(module, self.start, pipeline_of(self.machine).LEVELS[-1])
            verify_module(module)
        return module

    def kernel_modules(self) -> tuple[ModuleOp, dict[str, ModuleOp]]:
        """The host functions, which launch kernels by name, and each kernel at level ``mma`` in a module of its own."""
        module = self._at_mma()
        kernels: dict[str, ModuleOp] = {}
        for op in [op for op in module.ops if isinstance(op, KernelOp)]:
            kernels[op.sym_name.data] = apart = ModuleOp([op.clone()])
            apart.location = op.location
        return module, kernels

    def lower_kernel(self, kernel: ModuleOp) -> ModuleOp:
        """A kernel that stands apart, taken from level ``mma`` to the machine's last level in place."""
        with paused_collector():
            self._lower(kernel, "mma", pipeline_of(self.machine).LEVELS[-1])
        return kernel

    def _passes(self, level: str) -> list[ModulePass]:
        row = self.machine.name
        # A row that is not the one of its name is this machine's, with the caches that it really has.
        name = row if self.machine is machine(row) else "host"
        return [
            make_pass(spec)
            for text in pipeline_of(self.machine).steps(name, level, self.bound)
            for spec in parse_pipeline(text)
        ]

    def _lower(self, module: ModuleOp, above: str, below: str) -> None:
        """Take ``module`` from one level to another in place, without verifying."""
        for level in LEVELS[LEVELS.index(above) + 1 : LEVELS.index(below) + 1]:
            for module_pass in self._passes(level):
                with self._timed(module_pass.name):
                    run_pass(self.context, module, module_pass)

    @contextmanager
    def _timed(self, step: str) -> Generator[None]:
        """What happens inside counts as ``step``."""
        begin = perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - begin


def _entry(module: ModuleOp, name: str | None, alone: bool = False) -> str:
    """The function to run: the one called ``name``, or the only one that is public.

    Kernels for a device may stand ``alone``, to be written down and launched by somebody else: then there is none.
    """
    functions = [op for op in module.ops if isinstance(op, func.FuncOp) and not op.is_declaration]
    public = [op.sym_name.data for op in functions if op.sym_visibility is None or op.sym_visibility.data != "private"]
    if name is not None and name not in public:
        known = ", ".join(f"@{other}" for other in public) or "none"
        raise CrosstileError(f"no function is called @{name}{did_you_mean(name, public)}; functions: {known}")
    if name is None and not public:
        kernels = [op.properties["sym_name"] for op in module.ops if op.name in KERNELS]
        if kernels and alone:
            return ""
        error = CrosstileError("the module has no function to run: it needs a func.func with a body", module.location)
        if kernels:
            error = error.with_note(f"a kernel ({kernels[0]}) is launched by a host function, see docs/host.md")
        raise error
    if name is None and len(public) > 1 and "main" not in public:
        listed = ", ".join(f"@{other}" for other in public)
        raise CrosstileError(
            f"the module has several functions ({listed}): say which one with --entry", module.location
        )
    return name or ("main" if "main" in public else public[0])


def find_function(module: ModuleOp, name: str) -> func.FuncOp:
    """The function called ``name``."""
    if not name:
        raise CrosstileError("the module has kernels only, and no function that launches them", module.location)
    for op in module.ops:
        if isinstance(op, func.FuncOp) and op.sym_name.data == name:
            return op
    raise CrosstileError(f"no function is called @{name}", module.location)


def find_host(module: ModuleOp, name: str) -> func.FuncOp:
    """The host function called ``name``; an error if the function is not in destination-passing style."""
    function = find_function(module, name)
    if not is_host(function):
        raise op_error(function, f"@{name} is not a host function: it has no attribute {INPUTS} (see docs/host.md)")
    return function
