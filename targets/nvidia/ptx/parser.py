"""Reads PTX text into a :class:`~crosstile.targets.nvidia.ptx.module.Module`.

Level: text. In: PTX of any compiler. Out: frozen data with names resolved as far as scopes go: a register or label
declared in an inner ``{ }`` (inline assembly) is renamed ``name#scope``, so that function-wide tables are enough.
Directives that say nothing about execution (``.section`` and debug data, ``.pragma``) are read and dropped.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from crosstile.targets.nvidia.ptx.cursor import Cursor, number
from crosstile.targets.nvidia.ptx.module import (
    Address,
    Arguments,
    Immediate,
    Instruction,
    Kernel,
    Location,
    Module,
    Negated,
    Operand,
    Pair,
    Parameter,
    Predicate,
    Register,
    Sink,
    Symbol,
    Variable,
    Vector,
    type_bits,
)
from crosstile.targets.nvidia.ptx.scanner import PtxSyntaxError, Token, scan

_LINKAGE = (".visible", ".extern", ".weak", ".common")
_LINE_DIRECTIVES = (".version", ".target", ".address_size", ".file", ".loc")
_SPACES = (".shared", ".global", ".const", ".local")
_LABEL_OPCODES = ("bra", "brx")


def parse_ptx(text: str) -> Module:
    """The module that ``text`` spells. Raises :class:`PtxSyntaxError` with the line where it stops making sense."""
    return _Parser(text).module()


class _Scope:
    """Names declared between two braces, as they are written and as they are known in the whole function."""

    def __init__(self, number: int):
        self.number = number
        self.names: dict[str, str] = {}
        self.families: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        if (found := self.names.get(name)) is not None:
            return found
        stem = name.rstrip("0123456789")
        if stem != name and stem in self.families:
            return name + self.families[stem]
        return None


class _Function:
    """What is collected while a function's body is read."""

    def __init__(self) -> None:
        self.registers: dict[str, str] = {}
        self.families: dict[str, tuple[str, int]] = {}
        self.variables: list[Variable] = []
        self.body: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self.scopes: list[_Scope] = []
        self.opened = 0

    def open(self) -> None:
        self.scopes.append(_Scope(self.opened))
        self.opened += 1

    def suffix(self) -> str:
        number = self.scopes[-1].number
        return f"#{number}" if number else ""

    def resolve(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if (found := scope.find(name)) is not None:
                return found
        return name


class _Parser(Cursor):
    def __init__(self, text: str):
        self.text = text
        tokens, self.comments = scan(text)
        super().__init__(tokens)
        self.files: dict[int, str] = {}
        self.target = ""
        self.location: tuple[tuple[int, int, int], ...] = ()
        self.locations: dict[tuple[tuple[int, int, int], ...], Location] = {}

    # Module level.

    def module(self) -> Module:
        functions: dict[str, Kernel] = {}
        variables: list[Variable] = []
        while self.peek().kind != "end":
            token = self.take()
            if token.text in _LINE_DIRECTIVES:
                self.line_directive(token)
            elif token.text == ".section":
                self.skip_section()
            elif token.text in (".entry", ".func"):
                function = self.function(token.text == ".entry")
                if function is not None:
                    functions[function.name] = function
            elif token.text in _SPACES:
                variables += self.variables(token.text[1:])
            elif token.text in (".pragma", ".alias"):
                while not self.accept(";"):
                    self.take()
            elif token.text not in _LINKAGE and token.text != ";":
                raise PtxSyntaxError(f"unexpected '{token.text}' outside functions", token.line)
        placed = {name: self.place(function) for name, function in functions.items()}
        return Module(placed, tuple(variables), self.files, self.target, self.text)

    def line_directive(self, token: Token) -> None:
        rest = self.rest_of_line()
        if token.text == ".file" and len(rest) >= 2:
            self.files[int(rest[0].text)] = rest[1].text.strip('"')
        elif token.text == ".target":
            self.target = rest[0].text
        elif token.text == ".loc":
            numbers = [int(part.text) for part in rest if part.kind == "number"]
            is_inlined = any(part.text == "inlined_at" for part in rest)
            numbers = numbers[:3] + numbers[3:][-3:] if is_inlined else numbers[:3]
            if len(numbers) not in (3, 6):
                raise PtxSyntaxError(".loc takes a file number, a line and a column", token.line)
            own = (numbers[0], numbers[1], numbers[2])
            # An inlined instruction names where it was inlined right behind its own place.
            outer = ((numbers[3], numbers[4], numbers[5]),) if len(numbers) == 6 else ()
            self.location = (own, *outer)

    def skip_section(self) -> None:
        self.take()
        self.expect("{")
        while not self.accept("}"):
            self.take()

    def place(self, function: Kernel) -> Kernel:
        """Locations with the names of files, which LLVM writes at the very end."""
        body: list[Instruction] = []
        for instruction in function.body:
            body.append(replace(instruction, location=self.with_file_names(instruction.location)))
        return replace(function, body=tuple(body))

    def with_file_names(self, location: Location | None) -> Location | None:
        if location is None:
            return None
        file = self.files.get(int(location.file), f"file {location.file}")
        return replace(location, file=file, inlined_at=self.with_file_names(location.inlined_at))

    def current_location(self) -> Location | None:
        if not self.location or self.location[0][1] == 0:
            return None
        found = self.locations.get(self.location)
        if found is None:
            for file, line, column in reversed(self.location):
                found = Location(str(file), line, column, found)
            assert found is not None
            self.locations[self.location] = found
        return found

    # Declarations.

    def type_and_alignment(self) -> tuple[str, int]:
        align, element = 0, ""
        while self.peek().text.startswith("."):
            token = self.take()
            if token.text == ".align":
                amount = self.integer()
                align = align if ".ptr" in element else amount
            elif token.text == ".ptr":
                while self.peek().text in (".global", ".shared", ".const", ".local", ".generic", ".align"):
                    if self.take().text == ".align":
                        self.integer()
            elif token.text in (".v2", ".v4"):
                raise PtxSyntaxError("declarations of vector type are not supported", token.line)
            else:
                element = token.text[1:]
                try:
                    type_bits(element)
                except KeyError:
                    raise PtxSyntaxError(f"unknown type '{token.text}'", token.line) from None
        return element, align

    def array_counts(self) -> int | None:
        """The number of elements behind a name; None for a scalar, 0 for ``[]``."""
        if self.peek().text != "[":
            return None
        count = 1
        while self.accept("["):
            if self.accept("]"):
                count = 0
                continue
            count *= self.integer()
            self.expect("]")
        return count

    def variables(self, space: str) -> list[Variable]:
        element, align = self.type_and_alignment()
        found: list[Variable] = []
        while True:
            token = self.take()
            count = self.array_counts()
            initial = self.initial_value(element) if self.accept("=") else None
            variable = Variable(token.text, space, element, 1 if count is None else count, align, initial)
            if initial is not None and count == 0:
                variable = replace(variable, count=len(initial) * 8 // type_bits(element))
            found.append(variable)
            if self.accept(";"):
                return found
            self.expect(",")

    def initial_value(self, element: str) -> bytes:
        size = type_bits(element) // 8
        values: list[bytes] = []
        depth = 0
        while True:
            token = self.peek()
            if token.text == "{":
                depth += 1
                self.take()
            elif token.text == "}":
                depth -= 1
                self.take()
            elif token.text == ",":
                if depth == 0:
                    break
                self.take()
            elif token.text == ";":
                break
            else:
                negative = self.accept("-")
                token = self.take()
                if token.kind != "number":
                    raise PtxSyntaxError("initial values that are addresses are not supported", token.line)
                value = self.convert_initial(number(token.text), element)
                value = value ^ (1 << (8 * size - 1)) if negative and element.startswith("f") else value
                value = -value if negative and not element.startswith("f") else value
                values.append((value % (1 << 8 * size)).to_bytes(size, "little"))
        return b"".join(values)

    @staticmethod
    def convert_initial(number: Immediate, element: str) -> int:
        if number.kind == "f64" and element == "f32":
            value = struct.unpack("<d", struct.pack("<Q", number.value))[0]
            return struct.unpack("<I", struct.pack("<f", value))[0]
        return number.value

    # Functions.

    def function(self, is_entry: bool) -> Kernel | None:
        results = self.parameters() if self.peek().text == "(" else ()
        name = self.take().text
        parameters = self.parameters() if self.peek().text == "(" else ()
        directives: dict[str, tuple[int, ...]] = {}
        while self.peek().text not in ("{", ";"):
            directive = self.take()
            numbers: list[int] = []
            while self.peek().kind == "number" or self.peek().text == ",":
                token = self.take()
                if token.kind == "number":
                    numbers.append(number(token.text).value)
            if directive.text == ".pragma":
                while not self.accept(";"):
                    self.take()
            directives[directive.text.lstrip(".")] = tuple(numbers)
        if self.accept(";"):
            return None
        state = _Function()
        self.location = ()
        self.block(state)
        shared = tuple(variable for variable in state.variables if variable.space == "shared")
        local = tuple(variable for variable in state.variables if variable.space == "local")
        return Kernel(
            name,
            (*results, *parameters),
            state.registers,
            shared,
            local,
            tuple(state.body),
            state.labels,
            is_entry,
            directives,
        )

    def parameters(self) -> tuple[Parameter, ...]:
        self.expect("(")
        found: list[Parameter] = []
        while not self.accept(")"):
            token = self.take()
            if token.text not in (".param", ".reg"):
                raise PtxSyntaxError(f"expected '.param', found '{token.text}'", token.line)
            element, align = self.type_and_alignment()
            name = self.take().text
            count = self.array_counts()
            found.append(Parameter(name, element, 1 if count is None else count, align))
            self.accept(",")
        return tuple(found)

    def block(self, state: _Function) -> None:
        self.expect("{")
        state.open()
        self.declare_labels(state)
        while not self.accept("}"):
            token = self.peek()
            if token.text == "{":
                self.block(state)
            elif token.text == ";":
                self.take()
            elif token.text.startswith(".") and token.kind == "word":
                self.body_directive(state)
            elif token.kind == "word" and self.peek(1).text == ":":
                self.position += 2
                state.labels[state.resolve(token.text)] = len(state.body)
            else:
                self.instruction(state)
        state.scopes.pop()

    def declare_labels(self, state: _Function) -> None:
        """Labels are known in their whole block, also before they are defined."""
        depth, position = 1, self.position
        while depth:
            token = self.tokens[position]
            if token.kind == "end":
                raise PtxSyntaxError("the text ends before '}'", token.line)
            depth += {"{": 1, "}": -1}.get(token.text, 0) if token.kind == "mark" else 0
            if depth == 1 and token.text == ":" and self.tokens[position - 1].kind == "word":
                label = self.tokens[position - 1].text
                state.scopes[-1].names[label] = label + state.suffix()
            position += 1

    def body_directive(self, state: _Function) -> None:
        token = self.take()
        if token.text in _LINE_DIRECTIVES:
            self.line_directive(token)
        elif token.text == ".reg":
            self.registers(state)
        elif token.text in _SPACES or token.text == ".param":
            for variable in self.variables(token.text[1:]):
                name = variable.name + state.suffix()
                state.scopes[-1].names[variable.name] = name
                state.variables.append(replace(variable, name=name))
        elif token.text == ".section":
            self.skip_section()
        else:
            while not self.accept(";"):
                self.take()

    def registers(self, state: _Function) -> None:
        element, _ = self.type_and_alignment()
        while True:
            name = self.take().text
            if self.accept("<"):
                count = self.integer()
                self.expect(">")
                state.scopes[-1].families[name] = state.suffix()
                for index in range(count):
                    state.registers[f"{name}{index}{state.suffix()}"] = element
            else:
                state.scopes[-1].names[name] = name + state.suffix()
                state.registers[name + state.suffix()] = element
            if self.accept(";"):
                return
            self.expect(",")

    # Instructions.

    def instruction(self, state: _Function) -> None:
        predicate = None
        if self.accept("@"):
            negated = self.accept("!")
            predicate = Predicate(state.resolve(self.take().text), negated)
        token = self.take()
        if token.kind != "word":
            raise PtxSyntaxError(f"expected an instruction, found '{token.text}'", token.line)
        opcode, *modifiers = token.text.split(".")
        operands: list[Operand] = []
        while not self.accept(";"):
            operands.append(self.operand(state))
            if not self.accept(",") and self.peek().text != ";":
                raise PtxSyntaxError(f"expected ',' or ';', found '{self.peek().text}'", self.peek().line)
        state.body.append(
            Instruction(
                opcode,
                tuple(modifiers),
                predicate,
                tuple(operands),
                token.line,
                self.current_location(),
                self.comments.get(token.line, ""),
            )
        )

    def operand(self, state: _Function) -> Operand:
        first = self.simple_operand(state)
        if self.accept("|"):
            return Pair(first, self.simple_operand(state))
        return first

    def simple_operand(self, state: _Function) -> Operand:
        token = self.peek()
        if token.text == "[":
            return self.address(state)
        if token.text == "{":
            return Vector(self.list_until(state, "{", "}"))
        if token.text == "(":
            return Arguments(self.list_until(state, "(", ")"))
        if self.accept("!"):
            return Negated(Register(state.resolve(self.take().text)))
        if token.text == "-" or token.kind == "number":
            return self.constant()
        self.take()
        if token.kind != "word":
            raise PtxSyntaxError(f"expected an operand, found '{token.text}'", token.line)
        if token.text == "_":
            return Sink()
        name = state.resolve(token.text)
        if name in state.registers or name.startswith("%"):
            return Register(name)
        return Symbol(name, self.offset())

    def constant(self) -> Immediate:
        negative = self.accept("-")
        token = self.take()
        if token.kind != "number":
            raise PtxSyntaxError(f"expected a number, found '{token.text}'", token.line)
        value = number(token.text)
        if not negative:
            return value
        sign = {"f32": 1 << 31, "f64": 1 << 63}.get(value.kind)
        return Immediate(-value.value) if sign is None else replace(value, value=value.value ^ sign)

    def offset(self) -> int:
        total = 0
        while self.peek().text in ("+", "-"):
            sign = 1 if self.take().text == "+" else -1
            total += sign * self.integer()
        return total

    def list_until(self, state: _Function, start: str, end: str) -> tuple[Operand, ...]:
        self.expect(start)
        found: list[Operand] = []
        while not self.accept(end):
            found.append(self.operand(state))
            if self.peek().text != end:
                self.expect(",")
        return tuple(found)

    def address(self, state: _Function) -> Address:
        opening = self.expect("[")
        base = self.simple_operand(state)
        if isinstance(base, Symbol):
            base, offset = Symbol(base.name), base.offset
        else:
            offset = self.offset()
        if not isinstance(base, Register | Symbol | Immediate):
            raise PtxSyntaxError("an address starts with a register, a variable or a number", opening.line)
        rest: list[Operand] = []
        while self.accept(","):
            rest.append(self.operand(state))
        self.expect("]")
        return Address(base, offset, tuple(rest))
