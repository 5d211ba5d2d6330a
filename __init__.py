"""crosstile: one tensor program, lowered level by level to the matrix unit of many chips.

The repository root is this package. pytest imports this file under the clone folder's name, so nothing here may import
relatively at run time: the public names are looked up lazily in ``crosstile.tools.api``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know it is true for them; typing itself takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from crosstile.ir.diagnostics import CrosstileError as CrosstileError
    from crosstile.tools.api import CompiledFunction as CompiledFunction
    from crosstile.tools.api import compile as compile
    from crosstile.tools.gpu_function import GpuFunction as GpuFunction
    from crosstile.tools.prepared import PreparedFunction as PreparedFunction

__version__ = "0.1.0"
__all__ = ["CompiledFunction", "CrosstileError", "GpuFunction", "PreparedFunction", "__version__", "compile"]

_LAZY = {
    "CompiledFunction": "crosstile.tools.api",
    "CrosstileError": "crosstile.ir.diagnostics",
    "GpuFunction": "crosstile.tools.gpu_function",
    "PreparedFunction": "crosstile.tools.prepared",
    "compile": "crosstile.tools.api",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'crosstile' has no attribute {name!r}")
