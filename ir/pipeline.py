"""Pass pipelines as people write them, and the pass objects they stand for.

Two spellings are understood, mlir-opt's and xDSL's, which differ in the wrapper only::

    builtin.module(nn-to-nest,choose-schedule{target=host tile=8,32},canonicalize)
    nn-to-nest,choose-schedule{target=host tile=8,32},canonicalize

An option's value is a number, ``true``, ``false``, a word, a quoted string, or several of these with commas between.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpec, ParameterListType, ParameterType
from xdsl.utils.hints import isa, type_repr

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.registry import did_you_mean, find_pass

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VALUE = re.compile(r"[^\s,{}()\"']+")
_QUOTED = re.compile(r"\"((?:\\.|[^\"\\])*)\"|'((?:\\.|[^'\\])*)'")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class PassSpec:
    """A pass and its options as written: each a tuple of the texts of its values, empty for a bare name."""

    name: str
    options: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict[str, tuple[str, ...]])

    def __str__(self) -> str:
        options = " ".join(
            name.replace("_", "-") + ("=" + ",".join(map(_quote, values)) if values else "")
            for name, values in self.options.items()
        )
        return f"{self.name}{{{options}}}" if options else self.name


def parse_pipeline(text: str) -> list[PassSpec]:
    """The passes of a pipeline string, in order; a CrosstileError that points into ``text`` if it is malformed."""
    return _PipelineReader(text).pipeline()


def parse_options(text: str) -> dict[str, tuple[str, ...]]:
    """The options in ``a=1 b=2,3 c``, braces around them or not."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    return _PipelineReader(text).options("")


def pipeline_text(specs: list[PassSpec]) -> str:
    """The pipeline string of ``specs``, in mlir-opt's form."""
    return f"builtin.module({','.join(map(str, specs))})"


def make_pass(spec: PassSpec) -> ModulePass:
    """The pass object of ``spec``; a CrosstileError for an unknown pass or option, or a value of a wrong type."""
    pass_type = find_pass(spec.name)
    hints = get_type_hints(pass_type)
    names = option_names(pass_type)
    parameters: dict[str, ParameterListType] = {}
    for written, values in spec.options.items():
        name = written.replace("-", "_")
        if name.replace("_", "-") not in names:
            message = f"pass '{spec.name}' has no option '{written}'{did_you_mean(written, names)}"
            raise CrosstileError(message).with_note(describe_options(pass_type))
        parameters[name] = _convert(spec.name, written, values, hints[name])
    missing = sorted(name.replace("_", "-") for name in pass_type.required_fields() - set(parameters))
    if missing:
        message = f"pass '{spec.name}' needs a value for option '{missing[0]}'"
        raise CrosstileError(message).with_note(describe_options(pass_type))
    try:
        return pass_type.from_spec(ArgSpec(pass_type.name, parameters))
    except ValueError as error:
        raise CrosstileError(f"pass '{spec.name}': {error}") from error


def option_names(pass_type: type[ModulePass]) -> list[str]:
    """The options of a pass as users write them."""
    return [field.name.replace("_", "-") for field in _fields(pass_type)]


def describe_options(pass_type: type[ModulePass]) -> str:
    """Every option of a pass with the form of its values, and its default if it has one."""
    hints = get_type_hints(pass_type)
    described: list[str] = []
    for field in _fields(pass_type):
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        default = "" if value in (dataclasses.MISSING, None) else f" (default {_default_text(value)})"
        described.append(f"{field.name.replace('_', '-')}={_type_text(hints[field.name])}{default}")
    return (
        f"options of '{pass_type.name}': {', '.join(described)}" if described else f"'{pass_type.name}' has no options"
    )


def _fields(pass_type: type[ModulePass]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(pass_type) if field.init and field.name != "name"]


def _type_text(hint: Any) -> str:
    """A type as a user writes values of it: ``int``, ``int,int,...``, ``rows|columns``."""
    arguments = [argument for argument in get_args(hint) if argument not in (type(None), Ellipsis)]
    if get_origin(hint) is Literal:
        return "|".join(map(str, arguments))
    if get_origin(hint) is tuple:
        many = [] if len(arguments) > 1 else [*map(_type_text, arguments), "..."]
        return ",".join([*map(_type_text, arguments), *many])
    if arguments:
        return "|".join(map(_type_text, arguments))
    return type_repr(hint)


def _default_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_default_text(element) for element in cast("tuple[object, ...]", value))
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _convert(pass_name: str, option: str, values: tuple[str, ...], hint: Any) -> ParameterListType:
    """The values in the reading that the option's type accepts: as written in Python's sense, as floats, as text."""
    readings: list[ParameterListType] = [tuple(map(_literal, values))]
    if all(isinstance(value, int) for value in readings[0]):
        readings.append(tuple(float(value) for value in readings[0]))
    readings.append(values)
    if not values:
        # A bare name switches a flag on, as in mlir-opt; for other types it is xDSL's "no value".
        readings = [(True,), ()]
    for reading in readings:
        accepted = isa(reading[0], hint) if len(reading) == 1 else len(reading) == 0 and isa(None, hint)
        if accepted or isa(reading, hint):
            return reading
    shown = ",".join(values) or "no value"
    raise CrosstileError(f"pass '{pass_name}': option '{option}' expects {_type_text(hint)}, got '{shown}'")


def _literal(text: str) -> ParameterType:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text) if re.fullmatch(r"[-+]?[0-9.][0-9.eE+-]*", text) else text
    except ValueError:
        return text


def _quote(value: str) -> str:
    return value if _VALUE.fullmatch(value) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _PipelineReader:
    """A cursor over a pipeline string."""

    def __init__(self, text: str):
        self.text = text
        self.position = 0

    def pipeline(self) -> list[PassSpec]:
        """The whole text: passes, in ``builtin.module(...)`` or bare."""
        if not self.text.strip():
            return []
        self.match(_SPACE)
        if not re.compile(r"(builtin\.)?module\s*\(").match(self.text, self.position):
            return self.passes(nested=False)
        self.match(_NAME)
        self.expect("(")
        specs = self.passes(nested=True)
        self.expect(")")
        if self.position < len(self.text):
            raise self.error("expected the end of the pipeline here")
        return specs

    def passes(self, nested: bool) -> list[PassSpec]:
        """Passes with commas between, up to the closing parenthesis or the end."""
        specs: list[PassSpec] = []
        self.match(_SPACE)
        if nested and self.peek() == ")":
            return specs
        while True:
            specs.append(self.one_pass())
            if self.peek() == "":
                return specs
            if nested and self.peek() == ")":
                return specs
            self.expect(",", "expected ',', an option list in braces, or the end of the pipeline here")

    def one_pass(self) -> PassSpec:
        """``name`` or ``name{options}``."""
        self.match(_SPACE)
        start = self.position
        name = self.match(_NAME)
        if not name:
            raise self.error("expected the name of a pass here")
        self.match(_SPACE)
        if self.peek() == "(":
            self.position = start
            raise self.error(f"'{name}(...)' is not supported: passes run on the whole builtin.module")
        options: dict[str, tuple[str, ...]] = {}
        if self.peek() == "{":
            self.expect("{")
            options = self.options("}")
            self.expect("}")
        return PassSpec(name, options)

    def options(self, end: str) -> dict[str, tuple[str, ...]]:
        """``name`` or ``name=value,value``, blanks between, up to ``end``."""
        options: dict[str, tuple[str, ...]] = {}
        self.match(_SPACE)
        while self.peek() != end:
            name = self.match(_NAME)
            if not name:
                raise self.error("expected the name of an option here")
            if name in options:
                raise self.error(f"option '{name}' is given twice")
            values: list[str] = []
            if self.peek() == "=":
                self.position += 1
                values.append(self.value())
                while self.peek() == ",":
                    self.position += 1
                    values.append(self.value())
            options[name] = tuple(values)
            if self.peek() not in (end, " ", "\t", "\n"):
                raise self.error("expected a blank before the next option" + (f", or '{end}' here" if end else ""))
            self.match(_SPACE)
        return options

    def value(self) -> str:
        """One value: a quoted string without its quotes, or a word."""
        if (quoted := _QUOTED.match(self.text, self.position)) is not None:
            self.position = quoted.end()
            return re.sub(r"\\(.)", r"\1", quoted.group(1) if quoted.group(1) is not None else quoted.group(2))
        value = self.match(_VALUE)
        if not value:
            raise self.error("expected a value here")
        return value

    def peek(self) -> str:
        """The next character, or an empty string at the end."""
        return self.text[self.position : self.position + 1]

    def match(self, pattern: re.Pattern[str]) -> str:
        """What ``pattern`` matches here, consumed; an empty string if nothing."""
        found = pattern.match(self.text, self.position)
        if found is None:
            return ""
        self.position = found.end()
        return found.group()

    def expect(self, char: str, message: str = "") -> None:
        """Consume ``char`` and the blanks around it."""
        self.match(_SPACE)
        if self.peek() != char:
            raise self.error(message or f"expected '{char}' here")
        self.position += 1
        self.match(_SPACE)

    def error(self, message: str) -> CrosstileError:
        """A malformed pipeline, shown with a caret."""
        return CrosstileError(f"in the pass pipeline: {message}\n{self.text}\n{' ' * self.position}^")
