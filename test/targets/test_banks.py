"""Bank conflicts and swizzles against a brute-force count and the cases every tutorial knows."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosstile.targets import banks as banks_module
from crosstile.targets.banks import Swizzle, bank_conflicts, bank_turns
from crosstile.targets.layout import Layout, LayoutError

SWIZZLE_128 = Swizzle(3, 4, 3)


@pytest.mark.parametrize(
    ("text", "element_bits", "turns"),
    [
        ("tile(1, 32) lane(32:1)", 32, 1),  # a row of floats
        ("tile(32, 32) lane(32:32)", 32, 32),  # a column: all in one bank
        ("tile(32, 33) lane(32:33)", 32, 1),  # the classic cure: a padded pitch
        ("tile(1, 64) lane(32:2)", 32, 2),  # every other word
        ("tile(1, 1) lane(32:0)", 32, 1),  # one word for all: a broadcast
        ("tile(1, 32) lane(32:1)", 16, 1),  # neighbours share words
        ("tile(32, 64) lane(32:64)", 16, 32),
        ("tile(1, 32) lane(32:1)", 64, 1),  # 8 bytes per lane go in two halves of the warp
        ("tile(16, 24) lane(8:24) register(2:1)", 16, 1),  # rows of 12 words: 0, 12, 24, 4, 16, 28, 8, 20
        ("tile(8, 3) register(3:1) lane(8:3)", 32, 1),
    ],
)
def test_known_cases(text: str, element_bits: int, turns: int) -> None:
    assert bank_conflicts(Layout.parse(text), element_bits) == turns


def test_other_memories() -> None:
    column = Layout.parse("tile(16, 16) lane(16:16)")
    assert bank_conflicts(column, 32, banks=16) == 16
    assert bank_conflicts(column, 32, banks=64) == 4
    assert bank_conflicts(column, 32, banks=32, bank_bytes=8) == 4


def test_wide_accesses_and_the_swizzle() -> None:
    """Rows of 128 bytes, read 16 bytes a lane: eight lanes at a time, in one bank each only if swizzled."""
    matrix = Layout.parse("tile(16, 64) lane(16:64) register(8:1)")
    assert bank_conflicts(matrix, 16, vector=8) == 8
    assert bank_conflicts(matrix, 16, vector=8, swizzle=SWIZZLE_128) == 1


@given(
    st.integers(1, 6),
    st.integers(0, 40),
    st.integers(1, 3),
    st.integers(0, 5),
    st.sampled_from([8, 16, 32, 64]),
    st.sampled_from([8, 32]),
)
def test_conflicts_equal_brute_force(
    log_lanes: int, pitch: int, registers: int, step: int, bits: int, banks: int
) -> None:
    lanes = 2**log_lanes
    last = (lanes - 1) * pitch + (registers - 1) * step
    layout = Layout.of((last + 1,), register=[(registers, step)], lane=[(lanes, pitch)])
    together = banks * 4 // (bits // 8)
    worst = 0
    for register in range(registers):
        for start in range(0, lanes, together):
            touched: list[set[int]] = [set() for _ in range(banks)]
            for lane in range(start, min(start + together, lanes)):
                (place,) = layout.place(register=register, lane=lane)
                for byte in range(place * bits // 8, (place + 1) * bits // 8):
                    touched[byte // 4 % banks].add(byte // 4)
            worst = max(worst, max(len(words) for words in touched))
    assert bank_conflicts(layout, bits, banks) == worst


def test_bank_turns_counts_distinct_words() -> None:
    assert bank_turns([0, 0, 2, 128, 256], 2, 32, 4) == 3
    assert bank_turns([], 4, 32, 4) == 0


@given(st.integers(0, 4), st.integers(0, 5), st.integers(0, 3), st.integers(0, 1 << 14))
def test_a_swizzle_permutes_its_period_and_undoes_itself(bits: int, base: int, extra: int, address: int) -> None:
    swizzle = Swizzle(bits, base, bits + extra)
    moved = swizzle.apply(address)
    assert swizzle.apply(moved) == address
    assert moved // swizzle.period == address // swizzle.period
    assert moved % (1 << base) == address % (1 << base)


def test_the_128_byte_swizzle_in_words() -> None:
    """PTX ISA, "Swizzling Modes": chunk c of row r of 128 bytes goes to chunk c xor r mod 8."""
    for row in range(16):
        for chunk in range(8):
            assert SWIZZLE_128.apply(row * 128 + chunk * 16) == row * 128 + (chunk ^ row % 8) * 16


@pytest.mark.parametrize(
    ("text", "bits", "vector", "swizzle", "message"),
    [
        ("tile(2, 32) warp(2:32) lane(32:1)", 32, 1, None, "axis 'warp' does not take part"),
        ("tile(8) lane(8:1)", 4, 1, None, "not a whole number of bytes"),
        ("tile(32) lane(8:1) register(4:8)", 16, 4, None, "registers 0 to 3 are not neighbours"),
        ("tile(32) lane(8:4) register(3:1)", 16, 2, None, "3 registers are not a multiple of accesses of 2"),
        ("tile(64) lane(8:3) register(4:1)", 16, 4, None, "8 bytes at byte 6 is not aligned"),
        ("tile(8, 48) lane(8:48)", 16, 1, SWIZZLE_128, "rows of 48 x 16 bits are not a power of two"),
        ("tile(4, 64) lane(4:64)", 16, 1, SWIZZLE_128, "512 bytes is not a multiple of the period of 1024"),
        ("tile(8, 64) lane(8:64) register(8:1)", 16, 8, Swizzle(3, 3, 4), "tears an access of 16 bytes apart"),
    ],
)
def test_errors(text: str, bits: int, vector: int, swizzle: Swizzle | None, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        bank_conflicts(Layout.parse(text), bits, vector=vector, swizzle=swizzle)


def test_a_swizzle_must_not_feed_itself() -> None:
    with pytest.raises(LayoutError, match="shift at least bits"):
        Swizzle(3, 4, 2)


def test_the_examples_are_true() -> None:
    assert doctest.testmod(banks_module).attempted > 0
    assert doctest.testmod(banks_module).failed == 0
