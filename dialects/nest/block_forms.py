"""Combiners in block form: how a block of yielded values enters the state, written in tile operations.

A nest folds step by step; a kernel folds a block of steps at once. The *block form* of a combiner is the body of a loop
over blocks: from the state so far and the values of one block it makes the next state. Rows of a tile are independent
folds, columns are the steps of the block, of which the first ``%extent`` exist::

    %total_next = tile.reduce add %value_block into %value dims [1] extent [%extent] : !block -> !rows

Names: ``%<component>`` is a component of the state, ``%<value>_block`` what the body yields, ``%<component>_next`` the
result. Types: ``!rows`` is one number per row, ``!block`` one per row and step, ``!indices`` and ``!index_rows`` the
same of index; with payload, ``!payload`` is one number per row and payload, ``!values`` one per step and payload.
``%zero`` and ``%least`` are the scalars 0 and -inf. ``fold_kernel`` puts a form into a whole kernel.
"""

from __future__ import annotations

from crosstile.dialects.nest.combiners import COMBINERS, Combiner, Component, Yielded


def _map(result: str, type_: str, arguments: str, body: str, element: str = "f32") -> str:
    """A ``tile.map``: ``arguments`` as ``name = %value : !type``, the body's last value is ``%r``."""
    parts = [argument.replace("=", " ").replace(":", " ").split() for argument in arguments.split(",")]
    operands = ", ".join(value for _, value, _ in parts)
    types = ", ".join(kind for _, _, kind in parts)
    scalars = {"!indices": "index", "!index_rows": "index"}
    block = ", ".join(f"%{name} : {scalars.get(kind, 'f32')}" for name, _, kind in parts)
    lines = "\n".join(f"        {line.strip()}" for line in body.strip().split(";"))
    return (
        f"      {result} = tile.map ({operands} : {types}) -> {type_} {{\n"
        f"      ^bb0({block}):\n{lines}\n        tile.yield %r : {element}\n      }}\n"
    )


def _reduction(kind: str) -> str:
    return (
        f"      %value_next = tile.reduce {kind} %value_block into %value dims [1] extent [%extent] : !block -> !rows\n"
    )


_ARGMAX = (
    "      %best = tile.reduce max %value_block dims [1] extent [%extent] : !block -> !rows\n"
    "      %far = arith.constant 9223372036854775807 : index\n"
    + _map(
        "%places",
        "!indices",
        "v = %value_block : !block, i = %index_block : !indices, b = %best : !rows",
        "%here = arith.cmpf oeq, %v, %b : f32; %r = arith.select %here, %i, %far : index",
        "index",
    )
    + "      %first = tile.reduce min %places dims [1] extent [%extent] : !indices -> !index_rows\n"
    + _map(
        "%value_next",
        "!rows",
        "v = %value : !rows, i = %index : !index_rows, b = %best : !rows",
        "%none = arith.constant 0 : index; %empty = arith.cmpi slt, %i, %none : index; "
        "%more = arith.cmpf ogt, %b, %v : f32; %take = arith.ori %more, %empty : i1; "
        "%r = arith.select %take, %b, %v : f32",
    )
    + _map(
        "%index_next",
        "!index_rows",
        "v = %value : !rows, i = %index : !index_rows, b = %best : !rows, f = %first : !index_rows",
        "%none = arith.constant 0 : index; %empty = arith.cmpi slt, %i, %none : index; "
        "%more = arith.cmpf ogt, %b, %v : f32; %take = arith.ori %more, %empty : i1; "
        "%r = arith.select %take, %f, %i : index",
        "index",
    )
)

_WELFORD = (
    "      %width = arith.index_cast %extent : index to i64\n"
    "      %steps = arith.sitofp %width : i64 to f32\n"
    "      %total = tile.reduce add %value_block dims [1] extent [%extent] : !block -> !rows\n"
    + _map("%mean_block", "!rows", "s = %total : !rows", "%r = arith.divf %s, %steps : f32")
    + _map(
        "%deviations",
        "!block",
        "v = %value_block : !block, a = %mean_block : !rows",
        "%d = arith.subf %v, %a : f32; %r = arith.mulf %d, %d : f32",
    )
    + "      %squares_block = tile.reduce add %deviations dims [1] extent [%extent] : !block -> !rows\n"
    + _map("%count_next", "!rows", "n = %count : !rows", "%r = arith.addf %n, %steps : f32")
    + _map(
        "%mean_next",
        "!rows",
        "a = %mean : !rows, b = %mean_block : !rows, n = %count_next : !rows",
        "%d = arith.subf %b, %a : f32; %w = arith.divf %steps, %n : f32; "
        "%c = arith.mulf %d, %w : f32; %r = arith.addf %a, %c : f32",
    )
    + _map(
        "%squares_next",
        "!rows",
        "q = %squares : !rows, p = %squares_block : !rows, a = %mean : !rows, b = %mean_block : !rows, "
        "n = %count : !rows, t = %count_next : !rows",
        "%d = arith.subf %b, %a : f32; %e = arith.mulf %d, %d : f32; %w = arith.divf %steps, %t : f32; "
        "%f = arith.mulf %e, %n : f32; %g = arith.mulf %f, %w : f32; "
        "%h = arith.addf %q, %p : f32; %r = arith.addf %h, %g : f32",
    )
)

_EXPONENTIALS = (
    "      %maximum_next = tile.reduce max %score_block into %maximum dims [1] extent [%extent] : !block -> !rows\n"
    # A row that has seen nothing but -inf subtracts 0: -inf - -inf would be NaN.
    + _map(
        "%base",
        "!rows",
        "m = %maximum_next : !rows",
        "%nothing = arith.cmpf oeq, %m, %least : f32; %r = arith.select %nothing, %zero, %m : f32",
    )
    + _map(
        "%rescale",
        "!rows",
        "m = %maximum : !rows, b = %base : !rows",
        "%d = arith.subf %m, %b : f32; %r = math.exp %d : f32",
    )
    + _map(
        "%weights_all",
        "!block",
        "s = %score_block : !block, b = %base : !rows",
        "%d = arith.subf %s, %b : f32; %r = math.exp %d : f32",
    )
    + "      %weights = tile.mask %weights_all extent [_, %extent] else 0.0 : !block\n"
    + _map("%sum_kept", "!rows", "l = %sum : !rows, a = %rescale : !rows", "%r = arith.mulf %l, %a : f32")
    + "      %sum_next = tile.reduce add %weights into %sum_kept dims [1] : !block -> !rows\n"
)

_WEIGHTED = (
    _EXPONENTIALS
    + _map("%kept", "!payload", "o = %weighted : !payload, a = %rescale : !rows", "%r = arith.mulf %o, %a : f32")
    + "      %weighted_next = tile.contract %weights, %value_block, %kept extent %extent\n"
    "          : !block, !values -> !payload\n"
)

_AFFINE = (
    # Steps do not commute: the block is staged and its columns are applied one after the other.
    "      %factors = tile.stage %factor_block : !block -> !buffer\n"
    "      %offsets = tile.stage %offset_block : !block -> !buffer\n"
    "      %first = arith.constant 0 : index\n"
    "      %factor_next, %offset_next = tile.for %t, %tc = %first to %extent step 1\n"
    "          iter_args(%a = %factor, %b = %offset) -> (!rows, !rows) {\n"
    "      %fw = tile.window %factors[0, %t] : !buffer -> !column\n"
    "      %ow = tile.window %offsets[0, %t] : !buffer -> !column\n"
    "      %f = tile.load %fw : !column -> !rows\n"
    "      %o = tile.load %ow : !column -> !rows\n"
    + _map("%a_next", "!rows", "x = %f : !rows, y = %a : !rows", "%r = arith.mulf %x, %y : f32")
    + _map(
        "%b_next",
        "!rows",
        "x = %f : !rows, y = %b : !rows, z = %o : !rows",
        "%p = arith.mulf %x, %y : f32; %r = arith.addf %p, %z : f32",
    )
    + "      tile.yield %a_next, %b_next : !rows, !rows\n"
    "      }\n"
)

BLOCK_FORMS: dict[str, str] = {
    **{kind: _reduction(kind) for kind in ("add", "mul", "max", "min")},
    "argmax": _ARGMAX,
    "welford": _WELFORD,
    "logsumexp": _EXPONENTIALS,
    "softmax_weighted_sum": _WEIGHTED,
    "affine": _AFFINE,
}
"""The block form of every combiner, by name."""


def fold_kernel(name: str, rows: int = 8, block: int = 64, payload: int = 16) -> str:
    """The text of ``tile.kernel @fold`` that folds rows of any length in blocks with combiner ``name``.

    Its arguments are a memref of ``?x?`` per yielded value (of ``?xPAYLOAD`` for a payload value), then one of ``?x1``
    (``?xPAYLOAD``) per component of the state, which it overwrites.
    """
    row = COMBINERS[name]
    aliases = {
        "!rows": f"!tile.tile<{rows}x1xf32>",
        "!block": f"!tile.tile<{rows}x{block}xf32>",
        "!index_rows": f"!tile.tile<{rows}x1xindex>",
        "!indices": f"!tile.tile<{rows}x{block}xindex>",
        "!payload": f"!tile.tile<{rows}x{payload}xf32>",
        "!values": f"!tile.tile<{block}x{payload}xf32>",
        "!buffer": f"!tile.buffer<{rows}x{block}xf32>",
        "!column": f"!tile.window<{rows}x1xf32>",
    }
    body = "".join([_load(value, rows, block, payload) for value in row.yields]) + BLOCK_FORMS[name]
    parts = [component.name for component in row.components]
    types = ", ".join(_state_type(component) for component in row.components)
    header = "\n".join(f"{alias} = {type_}" for alias, type_ in aliases.items())
    arguments = [f"%in_{value.name} : {_memref(value, payload)}" for value in row.yields]
    arguments += [f"%out_{component.name} : {_state_memref(component, payload)}" for component in row.components]
    source = row.yields[0]
    return f"""{header}
tile.kernel @fold({", ".join(arguments)}) {{
  %start = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %least = arith.constant 0xFF800000 : f32
  %row_count = tile.dim %in_{source.name}, 0 : {_memref(source, payload)}
  %step_count = tile.dim %in_{source.name}, 1 : {_memref(source, payload)}
  tile.parallel (%row), (%rows) = (%start) to (%row_count) step ({rows}) {{
{_identities(row)}    {", ".join(f"%final_{part}" for part in parts)} = tile.for
        %step, %extent = %start to %step_count step {block}
        iter_args({", ".join(f"%{part} = %identity_{part}" for part in parts)}) -> ({types}) {{
{body}      tile.yield {", ".join(f"%{part}_next" for part in parts)} : {types}
    }}
{"".join(_store(component, rows, payload) for component in row.components)}  }}
  tile.return
}}
"""


def _memref(value: Yielded, payload: int) -> str:
    return f"memref<?x{payload if value.payload else '?'}x{'index' if value.integer else 'f32'}>"


def _state_memref(component: Component, payload: int) -> str:
    return f"memref<?x{payload if component.payload else 1}x{'index' if component.integer else 'f32'}>"


def _state_type(component: Component) -> str:
    return "!index_rows" if component.integer else "!payload" if component.payload else "!rows"


def _load(value: Yielded, rows: int, block: int, payload: int) -> str:
    """Load the block of ``value`` that starts at step ``%step``."""
    element = "index" if value.integer else "f32"
    shape = f"{block}x{payload}" if value.payload else f"{rows}x{block}"
    place, extent = ("[%step, 0]", "[%extent, _]") if value.payload else ("[%row, %step]", "[%rows, %extent]")
    window, tile = f"!tile.window<{shape}x{element}>", f"!tile.tile<{shape}x{element}>"
    source = f"%window_{value.name}"
    types = f"{_memref(value, payload)} -> {window}"
    return (
        f"      {source} = tile.window %in_{value.name}{place} extent {extent} : {types}\n"
        f"      %{value.name}_block = tile.load {source} : {window} -> {tile}\n"
    )


def _identities(row: Combiner) -> str:
    lines: list[str] = []
    for component in row.components:
        name, type_ = component.name, _state_type(component)
        element = "index" if component.integer else "f32"
        value = int(component.identity) if component.integer else _float_text(component.identity)
        lines.append(f"    %scalar_{name} = arith.constant {value} : {element}\n")
        lines.append(f"    %identity_{name} = tile.splat %scalar_{name} : {element} -> {type_}\n")
    return "".join(lines)


def _float_text(value: float) -> str:
    infinities = {float("inf"): "0x7F800000", float("-inf"): "0xFF800000"}
    return infinities.get(value, str(value))


def _store(component: Component, rows: int, payload: int) -> str:
    name, element = component.name, "index" if component.integer else "f32"
    window = f"!tile.window<{rows}x{payload if component.payload else 1}x{element}>"
    types = f"{_state_memref(component, payload)} -> {window}"
    return (
        f"    %to_{name} = tile.window %out_{name}[%row, 0] extent [%rows, _] : {types}\n"
        f"    tile.store %final_{name}, %to_{name} : {_state_type(component)}, {window}\n"
    )
