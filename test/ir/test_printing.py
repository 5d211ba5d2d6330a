"""Names for what is long and returns."""

from __future__ import annotations

import pytest
from round_trip import parse

from crosstile.ir.printing import print_module

LAYOUT = "#mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>"
FRAGMENT = f"!mma.fragment<8x64xf32, {LAYOUT}>"
PANELS = "affine_map<(d0, d1) -> ((d1 floordiv 16), d0, (d1 mod 16))>"


def test_layouts_and_maps_of_a_dialects_types_are_named_once():
    text = f"""mma.kernel @f(%a: {FRAGMENT}, %b: {FRAGMENT}, %c: !mma.buffer<8x64xf32, {PANELS}>,
        %d: !mma.fragment<8x64xf32, #mma.layout<tile(8, 64) lane(8:64, 2:1) register(32:2)>>) {{
    }}"""
    assert print_module(parse(text)).startswith(f"""#layout = {LAYOUT}
#map = {PANELS}
#layout1 = #mma.layout<tile(8, 64) lane(8:64, 2:1) register(32:2)>
builtin.module {{
  mma.kernel @f(%a: !mma.fragment<8x64xf32, #layout>, %b: !mma.fragment<8x64xf32, #layout>, """)


@pytest.mark.parametrize("kind", ["memref", "tensor"])
def test_maps_of_builtin_types_stand_where_they_are_used(kind: str):
    text = f'"test.op"() {{type = {kind}<8x64xf32, {PANELS}>}} : () -> ()'
    assert print_module(parse(text, allow_unregistered=True)).startswith("builtin.module {")
