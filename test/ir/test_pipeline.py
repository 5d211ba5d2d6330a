"""Pipeline strings: what is understood, what is printed back, and what is wrong with the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from crosstile.ir import pipeline
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.pipeline import (
    PassSpec,
    describe_options,
    make_pass,
    option_names,
    parse_options,
    parse_pipeline,
    pipeline_text,
)


@dataclass(frozen=True)
class _Options(ModulePass):
    name = "options"

    count: int
    scale: float = 1.0
    tile: tuple[int, ...] = (1, 2)
    label: str = ""
    fast: bool = False
    order: Literal["rows", "columns"] | None = None

    def apply(self, ctx: Context, op: ModuleOp) -> None: ...


@pytest.fixture(autouse=True)
def only_pass(monkeypatch: pytest.MonkeyPatch):
    def find_pass(name: str) -> type[ModulePass]:
        return _Options

    monkeypatch.setattr(pipeline, "find_pass", find_pass)


@pytest.mark.parametrize(
    "text",
    [
        "a,b{x=1 y=2,3 flag}",
        "builtin.module(a,b{x=1 y=2,3 flag})",
        " builtin.module ( a , b { x=1  y=2,3 flag } ) ",
        "module(a,b{x=1 y=2,3 flag})",
    ],
)
def test_all_spellings_are_one_pipeline(text: str):
    specs = parse_pipeline(text)
    assert specs == [PassSpec("a"), PassSpec("b", {"x": ("1",), "y": ("2", "3"), "flag": ()})]
    assert pipeline_text(specs) == "builtin.module(a,b{x=1 y=2,3 flag})"


def test_empty_pipelines():
    assert parse_pipeline("") == parse_pipeline("builtin.module()") == []


names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
values = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=8)
specs = st.builds(PassSpec, names, st.dictionaries(names, st.lists(values, max_size=3).map(tuple), max_size=3))


@given(st.lists(specs, max_size=4))
def test_what_is_printed_reads_back(generated: list[PassSpec]):
    assert parse_pipeline(pipeline_text(generated)) == generated


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("count=3", "count", 3),
        ("count=3 scale=2", "scale", 2.0),
        ("count=3 scale=1e-3", "scale", 1e-3),
        ("count=3 tile=4,5,6", "tile", (4, 5, 6)),
        ("count=3 tile=4", "tile", (4,)),
        ("count=3 label=x86-64-avx512", "label", "x86-64-avx512"),
        ("count=3 label=12", "label", "12"),
        ("{count=3 label='two words'}", "label", "two words"),
        ('count=3 label="a,b"', "label", "a,b"),
        ("count=3 fast", "fast", True),
        ("count=3 fast=false", "fast", False),
        ("count=3 order=columns", "order", "columns"),
        ("count=-1", "count", -1),
    ],
)
def test_values_take_the_type_of_the_option(options: str, field: str, value: object):
    made = make_pass(PassSpec("options", parse_options(options)))
    assert getattr(made, field) == value
    assert type(getattr(made, field)) is type(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "pass 'options' needs a value for option 'count'"),
        ("count=many", "pass 'options': option 'count' expects int, got 'many'"),
        ("count=1.5", "pass 'options': option 'count' expects int, got '1.5'"),
        ("count=1,2", "pass 'options': option 'count' expects int, got '1,2'"),
        ("count=1 tile=a,b", "pass 'options': option 'tile' expects int,int,..., got 'a,b'"),
        ("count=1 fast=maybe", "pass 'options': option 'fast' expects bool, got 'maybe'"),
        ("count=1 order=none", "pass 'options': option 'order' expects rows|columns, got 'none'"),
        ("conut=1", "pass 'options' has no option 'conut'; did you mean 'count'?"),
        ("count=1 count=2", "in the pass pipeline: option 'count' is given twice"),
        ("count=", "in the pass pipeline: expected a value here"),
        ("count=1;", "pass 'options': option 'count' expects int, got '1;'"),
        ("=1", "in the pass pipeline: expected the name of an option here"),
    ],
)
def test_wrong_options(options: str, message: str):
    with pytest.raises(CrosstileError) as caught:
        make_pass(PassSpec("options", parse_options(options)))
    assert caught.value.message.split("\n")[0] == message


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("a,,b", 2, "expected the name of a pass here"),
        ("a,", 2, "expected the name of a pass here"),
        ("a b", 2, "expected ',', an option list in braces, or the end of the pipeline here"),
        ("a{x", 3, "expected a blank before the next option, or '}' here"),
        ("a{x=1 y=}", 8, "expected a value here"),
        ("builtin.module(a", 16, "expected ')' here"),
        ("builtin.module(a))", 17, "expected the end of the pipeline here"),
        ("func.func(a)", 0, "'func.func(...)' is not supported: passes run on the whole builtin.module"),
    ],
)
def test_malformed_pipelines_are_shown_with_a_caret(text: str, column: int, message: str):
    with pytest.raises(CrosstileError) as caught:
        parse_pipeline(text)
    assert caught.value.message == f"in the pass pipeline: {message}\n{text}\n{' ' * column}^"


def test_options_are_described_for_messages():
    assert describe_options(_Options) == (
        "options of 'options': count=int, scale=float (default 1.0), tile=int,int,... (default 1,2),"
        ' label=str (default ""), fast=bool (default false), order=rows|columns'
    )
    assert option_names(_Options) == ["count", "scale", "tile", "label", "fast", "order"]
