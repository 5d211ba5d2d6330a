"""The layout algebra: its text, its laws on random layouts, and the layouts that vendors document."""

import doctest
import itertools
from collections.abc import Callable, Iterator, Sequence
from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crosstile.targets import layout as layout_module
from crosstile.targets.layout import Layout, LayoutError, Mode, row_major

SIZES = st.integers(1, 6)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Any layout: strides 0 to 7, a tile just large enough or with room."""
    groups = draw(st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 7)), max_size=2), max_size=3))
    last = sum((size - 1) * stride for modes in groups for size, stride in modes)
    columns = draw(st.integers(1, 5))
    rows = last // columns + 1 + draw(st.integers(0, 1))
    return Layout.of((rows, columns), **{f"axis{i}": modes for i, modes in enumerate(groups)})


@st.composite
def mixed_radix(draw: st.DrawFn, axes: tuple[str, ...] = ("register", "lane", "warp")) -> Layout:
    """A layout whose non-zero strides form a mixed radix in any order, with replicated modes between them."""
    sizes = draw(st.lists(SIZES, min_size=1, max_size=4))
    modes: list[Mode] = []
    stride = 1
    for size in sizes:
        modes.append(Mode(size, stride))
        stride *= size
    modes += [Mode(size, 0) for size in draw(st.lists(SIZES, max_size=2))]
    modes = draw(st.permutations(modes))
    homes = [draw(st.integers(0, len(axes) - 1)) for _ in modes]
    return Layout(
        (stride,),
        tuple(
            (name, tuple(mode for mode, home in zip(modes, homes, strict=True) if home == i))
            for i, name in enumerate(axes)
        ),
    )


# Text --------------------------------------------------------------------------------------------------------------


@given(layouts())
def test_text_round_trips(layout: Layout) -> None:
    assert Layout.parse(str(layout)) == layout


def test_text() -> None:
    text = "tile(8, 32) register(8:32, 2:16) lane(16:1)"
    layout = Layout.of((8, 32), register=[(8, 32), (2, 16)], lane=[(16, 1)])
    assert str(layout) == text
    assert Layout.parse("  tile( 8,32 )register(8 : 32,2:16)\n lane(16:1) ") == layout
    assert str(Layout.parse("tile() lane()")) == "tile() lane()"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with the tile's sizes"),
        ("lane(16:1)", "begins with the tile's sizes"),
        ("tile(8, 32) register[8:32]", r"expected 'name\(...\)' at 'register\[8:32\]'"),
        ("tile(8, x)", r"'x' in tile\(...\) is not a size"),
        ("tile(8, 32) lane(16)", r"'16' in lane\(...\) is not size:stride"),
        ("tile(8, 32) lane(-1:1)", r"'-1:1' in lane\(...\) is not size:stride"),
        ("tile(8, 0)", "a tile's sizes are at least 1"),
        ("tile(8) lane(0:1)", "mode 0:1 needs a size of at least 1"),
        ("tile(8) lane(4:1) lane(2:4)", "axis 'lane' is given twice"),
        ("tile(8, 2) lane(16:1) register(2:1)", "the last location maps to place 16, the tile has only 16 places"),
    ],
)
def test_errors_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        Layout.parse(text)


# The map -----------------------------------------------------------------------------------------------------------


@given(layouts())
def test_places_are_sums_of_digits_times_strides(layout: Layout) -> None:
    """offsets, place and holders agree with the definition, evaluated digit by digit."""
    offsets = layout.offsets()
    assert len(offsets) == layout.locations
    holders = layout.holders()
    sizes = [layout.size(name) for name, _ in layout.axes]
    for number, offset in enumerate(offsets):
        location: list[int] = []
        rest = number
        for size in reversed(sizes):
            rest, digit = divmod(rest, size)
            location.insert(0, digit)
        named = {name: value for (name, _), value in zip(layout.axes, location, strict=True)}
        assert layout.place(**named) == divmod(offset, layout.tile[1])
        assert tuple(location) in holders[offset]
    assert sum(map(len, holders)) == layout.locations
    assert layout.is_onto == all(holders)
    assert layout.is_injective == (len(set(offsets)) == len(offsets))


def test_place_of_the_tutorial() -> None:
    layout = Layout.parse("tile(8, 32) register(8:32, 2:16) lane(16:1)")
    assert layout.place(register=5, lane=3) == (2, 19)
    with pytest.raises(LayoutError, match="lane 16 is out of range, the axis has 16"):
        layout.place(lane=16)
    with pytest.raises(LayoutError, match="no axis 'warp'; it has register, lane"):
        layout.place(warp=0)


@given(layouts())
def test_simplify_keeps_the_map(layout: Layout) -> None:
    simple = layout.simplify()
    assert simple.offsets() == layout.offsets()
    assert len(simple.modes) <= len(layout.modes)


def test_simplify_merges() -> None:
    assert str(Layout.parse("tile(8, 4) lane(4:8, 1:3, 2:4, 4:1)").simplify()) == "tile(8, 4) lane(32:1)"
    assert str(Layout.parse("tile(8) lane(4:0, 2:0)").simplify()) == "tile(8) lane(8:0)"


@given(layouts(), st.data())
def test_restrict_fixes_the_other_axes_at_zero(layout: Layout, data: st.DataObject) -> None:
    assume(layout.axes)
    name, _ = data.draw(st.sampled_from(layout.axes))
    along = layout.restrict(name)
    assert along.offsets() == [
        row * layout.tile[1] + column
        for row, column in (layout.place(**{name: number}) for number in range(layout.size(name)))
    ]


# The algebra -------------------------------------------------------------------------------------------------------


@given(mixed_radix())
def test_invert_is_a_right_inverse(layout: Layout) -> None:
    inverse = layout.invert()
    assert layout.compose(inverse).offsets() == list(range(layout.places))
    if layout.is_injective:
        assert inverse.compose(layout).offsets() == list(range(layout.locations))


@given(layouts())
def test_invert_succeeds_or_says_why(layout: Layout) -> None:
    try:
        inverse = layout.invert()
    except LayoutError as error:
        expected = "not those of a mixed radix" if layout.is_onto else "some places have no location"
        assert expected in str(error)
    else:
        assert layout.is_onto
        offsets = layout.offsets()
        assert [offsets[number] for number in inverse.offsets()] == list(range(layout.places))


def test_a_layout_that_is_onto_without_an_inverse() -> None:
    overlapping = Layout.parse("tile(6) lane(2:2, 4:1)")
    assert overlapping.is_onto
    assert not overlapping.is_injective
    with pytest.raises(LayoutError, match="not those of a mixed radix"):
        overlapping.invert()


@st.composite
def composable(draw: st.DrawFn) -> tuple[Layout, Layout]:
    """A mixed radix, and any layout whose places are the first's locations."""
    outer = draw(mixed_radix())
    modes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 12)), max_size=3))
    assume(sum((size - 1) * stride for size, stride in modes) < outer.locations)
    return outer, Layout.of((outer.locations,), lane=modes)


@given(composable())
def test_compose_is_composition(layouts: tuple[Layout, Layout]) -> None:
    """If it fails, no strides express the composition, however inner digits are split (replicas may, by chance)."""
    outer, inner = layouts
    want = [outer.offsets()[offset] for offset in inner.offsets()]
    try:
        composed = outer.compose(inner)
    except LayoutError:
        assert not outer.is_injective or not any(
            _is_linear(sizes, want) for sizes in _splits([mode.size for mode in inner.modes])
        )
    else:
        assert composed.offsets() == want
        assert composed.tile == outer.tile


def _splits(sizes: list[int]) -> Iterator[tuple[int, ...]]:
    """All ways to write each size as an ordered product of factors above 1."""

    def factorings(size: int) -> Iterator[tuple[int, ...]]:
        yield (size,)
        for factor in range(2, size):
            if size % factor == 0:
                yield from ((factor, *rest) for rest in factorings(size // factor))

    for choice in itertools.product(*map(factorings, sizes)):
        yield tuple(itertools.chain(*choice))


def _is_linear(sizes: Sequence[int], offsets: list[int]) -> bool:
    """Whether offsets are sums of digits of these sizes times strides: those found where one digit is 1."""
    strides: list[int] = []
    for i, size in enumerate(sizes):
        strides.append(offsets[prod(sizes[i + 1 :])] - offsets[0] if size > 1 else 0)
    ranges = [[digit * stride for digit in range(size)] for size, stride in zip(sizes, strides, strict=True)]
    return offsets == [sum(digits) for digits in itertools.product(*ranges)]


@given(mixed_radix(), st.permutations(("register", "lane", "warp")))
def test_compose_is_associative(layout: Layout, order: list[str]) -> None:
    inverse = layout.invert()
    reordered = Layout(layout.tile, tuple((name, layout.axis(name)) for name in order))
    try:  # a change of the order of axes: from reordered locations to places, to locations, to places again
        left, right = layout.compose(inverse).compose(reordered), layout.compose(inverse.compose(reordered))
    except LayoutError:
        assert not layout.is_injective
    else:
        assert left.offsets() == right.offsets() == reordered.offsets()


def test_compose_errors() -> None:
    outer = Layout.parse("tile(12) lane(3:4, 4:1)")
    with pytest.raises(LayoutError, match=r"12 locations.*8 places"):
        outer.compose(Layout.parse("tile(8) lane(8:1)"))
    transposed = Layout.parse("tile(12) lane(4:1, 3:4)")
    with pytest.raises(LayoutError, match="3:2 steps across the digits 4:1, 3:4"):
        transposed.compose(Layout.parse("tile(12) lane(3:2, 2:1)"))
    with pytest.raises(LayoutError, match="digits carry into each other"):
        transposed.compose(Layout.parse("tile(12) lane(2:1, 3:1)"))


@given(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES))
def test_product_repeats_the_atom(grid_tile: tuple[int, int], atom_tile: tuple[int, int]) -> None:
    """Checked cell by cell: the grid's location says which copy, the atom's where inside it."""
    grid = Layout.of(grid_tile, warp=[(grid_tile[0], grid_tile[1])], register=[(grid_tile[1], 1)])
    atom = Layout.of(atom_tile, lane=[(atom_tile[1], 1)], register=[(atom_tile[0], atom_tile[1])])
    whole = grid.product(atom)
    assert whole.tile == (grid_tile[0] * atom_tile[0], grid_tile[1] * atom_tile[1])
    assert whole.is_onto
    assert whole.is_injective
    for warp in range(grid_tile[0]):
        for lane in range(atom_tile[1]):
            for register in range(grid_tile[1] * atom_tile[0]):
                copy, inside = divmod(register, atom_tile[0])
                row, column = grid.place(warp=warp, register=copy)
                atom_row, atom_column = atom.place(lane=lane, register=inside)
                want = (row * atom_tile[0] + atom_row, column * atom_tile[1] + atom_column)
                assert whole.place(warp=warp, lane=lane, register=register) == want


def test_product_of_the_tutorial() -> None:
    grid, atom = Layout.parse("tile(8, 2) register(8:2, 2:1)"), Layout.parse("tile(1, 16) lane(16:1)")
    assert str(grid.product(atom)) == "tile(8, 32) register(8:32, 2:16) lane(16:1)"
    with pytest.raises(LayoutError, match="different ranks"):
        grid.product(Layout.parse("tile(16) lane(16:1)"))
    with pytest.raises(LayoutError, match="3:2 steps across the digits 2:6, 3:1"):
        Layout.parse("tile(1, 2) register(2:1)").product(Layout.parse("tile(2, 3) lane(3:2, 2:1)"))


def test_row_major() -> None:
    assert str(row_major((4, 6), {"warp": 2, "lane": 12})) == "tile(4, 6) warp(2:12) lane(12:1)"
    with pytest.raises(LayoutError, match="has 8 locations"):
        row_major((4, 6), {"lane": 8})


# Layouts that vendors document, from their closed forms --------------------------------------------------------------

CLOSED_FORMS: dict[str, tuple[str, Callable[[int, int], tuple[int, int]]]] = {
    # PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type": group = lane / 4, thread = lane % 4.
    "mma.m16n8k16 A": (
        "tile(16, 16) register(2:8, 2:128, 2:1) lane(8:16, 4:2)",
        lambda r, lane: (lane // 4 + (8 if r % 4 >= 2 else 0), lane % 4 * 2 + r % 2 + (8 if r >= 4 else 0)),
    ),
    "mma.m16n8k16 B": (
        "tile(16, 8) register(2:64, 2:8) lane(8:1, 4:16)",
        lambda r, lane: (lane % 4 * 2 + r % 2 + (8 if r >= 2 else 0), lane // 4),
    ),
    "mma.m16n8k16 C": (
        "tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)",
        lambda r, lane: (lane // 4 + (8 if r >= 2 else 0), lane % 4 * 2 + r % 2),
    ),
    "mma.m16n8k8 tf32 A": (
        "tile(16, 8) register(2:4, 2:64) lane(8:8, 4:1)",
        lambda r, lane: (lane // 4 + 8 * (r % 2), lane % 4 + 4 * (r // 2)),
    ),
    # CDNA: the rows of the accumulator in each lane's registers, confirmed by execution.
    "MFMA 16x16": ("tile(16, 16) register(4:16) lane(4:64, 16:1)", lambda r, lane: (4 * (lane // 16) + r, lane % 16)),
    "MFMA 32x32": (
        "tile(32, 32) register(4:256, 4:32) lane(2:128, 32:1)",
        lambda r, lane: (8 * (r // 4) + 4 * (lane // 32) + r % 4, lane % 32),
    ),
    "WMMA gfx11": ("tile(16, 16) register(8:32) lane(2:16, 16:1)", lambda r, lane: (2 * r + lane // 16, lane % 16)),
    "WMMA gfx12": ("tile(16, 16) register(8:16) lane(2:128, 16:1)", lambda r, lane: (8 * (lane // 16) + r, lane % 16)),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_documented_layouts(name: str) -> None:
    text, closed_form = CLOSED_FORMS[name]
    layout = Layout.parse(text)
    for register in range(layout.size("register")):
        for lane in range(layout.size("lane")):
            assert layout.place(register=register, lane=lane) == closed_form(register, lane)
    assert layout.is_onto
    assert layout.is_injective
    assert layout.compose(layout.invert()).offsets() == list(range(layout.places))


def test_wgmma_accumulator_is_a_grid_of_small_ones() -> None:
    """PTX ISA, wgmma register fragments: four warps of 16 rows, n/8 copies of the m16n8 accumulator along the row."""
    atom = Layout.parse(CLOSED_FORMS["mma.m16n8k16 C"][0])
    grid = Layout.of((4, 16), warp=[(4, 16)], register=[(16, 1)])
    whole = grid.product(atom)
    assert whole == Layout.parse("tile(64, 128) warp(4:2048) register(16:8, 2:1024, 2:1) lane(8:128, 4:2)")


# Pictures ----------------------------------------------------------------------------------------------------------


def test_draw() -> None:
    assert Layout.parse("tile(3) lane(2:1)").draw().splitlines() == [
        "tile(3), each cell lane",
        "  0  1  2",
        "  0  1  -",
    ]
    replicated = Layout.parse("tile(2, 2, 1) register(2:2, 2:1) lane(4:0)")
    assert replicated.draw().splitlines() == [
        "tile(2, 2, 1), each cell register/lane",
        "        0",
        "0, 0  0/*",
        "0, 1  1/*",
        "1, 0  2/*",
        "1, 1  3/*",
    ]
    twice = Layout.parse("tile(1, 2) lane(2:0, 2:1)")
    assert twice.draw().splitlines()[2] == "0  0,2  1,3"


def test_the_tutorials_pictures_are_true() -> None:
    assert doctest.testmod(layout_module).attempted > 0
    assert doctest.testmod(layout_module).failed == 0
