"""Values are defined before they are used, across blocks and regions, where order means something."""

from __future__ import annotations

import pytest
from round_trip import parse

from crosstile.ir.diagnostics import CrosstileError

LEGAL = {
    "a dominating block": """
func.func @f(%c: i1, %a: i32) -> i32 {
  cf.cond_br %c, ^left, ^right
^right:
  cf.br ^left
^left:
  func.return %a : i32
}""",
    "a loop in blocks, the definition after the use in the text": """
func.func @f(%c: i1) {
  cf.br ^head
^tail:
  %y = arith.muli %x, %x : i32
  cf.br ^head
^head:
  %x = arith.constant 1 : i32
  cf.cond_br %c, ^tail, ^end
^end:
  func.return
}""",
    "a value from around the region": """
func.func @f(%c: i1) {
  %x = arith.constant 1 : i32
  scf.if %c {
    %y = arith.addi %x, %x : i32
  }
  func.return
}""",
    "a graph region": """
%y = "test.op"(%x) : (i32) -> i32
%x = "test.op"() : () -> i32
""",
    "a dialect whose operations form graphs": """
func.func @f() -> i32 {
  %a = arith.constant 1 : i32
  %b = equivalence.class %a, %c : i32
  %c = arith.addi %b, %b : i32
  func.return %b : i32
}""",
    "unreachable blocks": """
func.func @f() {
  func.return
^lost:
  %y = arith.muli %x, %x : i32
  cf.br ^other
^other:
  %x = arith.constant 1 : i32
  cf.br ^lost
}""",
}

ILLEGAL = {
    "the same block": """
func.func @f(%a: i32) {
  %b = arith.addi %c, %a : i32
  %c = arith.addi %a, %a : i32
  func.return
}""",
    "its own operand": """
func.func @f(%a: i32) {
  %b = arith.addi %b, %a : i32
  func.return
}""",
    "a block beside": """
func.func @f(%c: i1) {
  cf.cond_br %c, ^left, ^right
^left:
  %x = arith.constant 1 : i32
  cf.br ^end
^right:
  %y = arith.muli %x, %x : i32
  cf.br ^end
^end:
  func.return
}""",
    "a region before": """
func.func @f(%c: i1) {
  scf.if %c {
    %y = arith.muli %x, %x : i32
  }
  %x = arith.constant 1 : i32
  func.return
}""",
}


@pytest.mark.parametrize("text", LEGAL.values(), ids=list(LEGAL))
def test_legal(text: str):
    parse(text)


@pytest.mark.parametrize("text", ILLEGAL.values(), ids=list(ILLEGAL))
def test_illegal(text: str):
    with pytest.raises(CrosstileError, match="operand #0 does not dominate this use"):
        parse(text)
