"""``crosstile check``: right programs pass, and no mistake of a compiler does."""

from __future__ import annotations

from pathlib import Path

import pytest
from operators import OPERATORS, arguments_of, program_text
from sabotage import NEST_MISTAKES, OBSERVED_MISTAKES

from crosstile.tools.judge import CODE, Judge, Verdict
from crosstile.tools.program import Program

ROOT = Path(__file__).resolve().parents[2]
IDEMPOTENT = ("relu", "max", "min")
MOVES = ("transpose", "reshape", "broadcast", "cast")
BARE = ("matmul", "matmul_transposed", "contract")
SUMS = ("matmul", "matmul_transposed", "matmul_add", "contract", "softmax", "layer_norm")


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_right_at_every_level(name: str):
    report = Judge(Program.load(program_text(name)), arguments_of(name)).run()
    assert report.right, [(verdict.level, verdict.share, verdict.error, verdict.remarks) for verdict in report.verdicts]
    assert [verdict.level for verdict in report.verdicts] == ["nn", "nest", "tile", "mma", CODE]
    assert "the same bits as mma" in report.verdicts[-1].remarks
    assert "the same bits with 2 threads" in report.verdicts[-1].remarks


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "cast"])
def test_every_operator_is_right_in_f64(name: str):
    report = Judge(Program.load(program_text(name, "f64")), arguments_of(name, "f64")).run()
    assert report.right, [(verdict.level, verdict.share, verdict.error, verdict.remarks) for verdict in report.verdicts]


def sabotaged(name: str, mistake: str) -> Verdict:
    """What check says of the nest level of an operator after a mistake was made there."""
    program = Program.load(program_text(name))
    judge = Judge(program, arguments_of(name))
    if mistake in OBSERVED_MISTAKES:
        judge.observe = {"nest": OBSERVED_MISTAKES[mistake]}
    else:
        module = program.at("nest").clone()
        NEST_MISTAKES[mistake](module)
        program.replace("nest", module)
    return next(verdict for verdict in judge.verdicts() if verdict.level == "nest")


def applies(name: str, mistake: str) -> bool:
    """Whether an operator can go wrong in this way: it sums, it has a kernel with an epilogue that matters."""
    summing = name in SUMS or name.startswith("reduce")
    if mistake == "last k dropped":
        return summing
    if mistake == "epilogue applied twice":
        return name not in (*MOVES, *IDEMPOTENT, *BARE) and not name.startswith("reduce")
    return mistake in OBSERVED_MISTAKES or name != "reshape"


CASES = [
    (name, mistake) for name in OPERATORS for mistake in (*NEST_MISTAKES, *OBSERVED_MISTAKES) if applies(name, mistake)
]


@pytest.mark.parametrize(("name", "mistake"), CASES)
def test_no_mistake_passes(name: str, mistake: str):
    verdict = sabotaged(name, mistake)
    assert verdict.error is None, verdict.error
    assert not verdict.right and verdict.share > 1.0
    assert verdict.worst is not None
