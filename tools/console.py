"""The commands as they are installed: Ctrl-C ends them quietly with 130 from the first moment on.

Most of a short run is imports, and an interrupt in them would otherwise end in a traceback. So this module imports next
to nothing, and an interrupt leaves the process at once while a tool is imported. After that it is a KeyboardInterrupt,
which a tool answers (``run_tool``); what comes before its answer is caught here.

At its end Python takes a program apart object by object, a tenth of a second for the compiler's thousand classes. A
command leaves them to the operating system; in the processes of others the collector is theirs.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

signal: Any = __import__("_signal")
"""What the module ``signal`` wraps; that one imports a dozen others first."""

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended: 128 and the number of the signal."""


def crosstile() -> int:
    """``crosstile``."""
    return _run("crosstile.tools.main")


def crosstile_opt() -> int:
    """``crosstile-opt``."""
    return _run("crosstile.tools.opt")


def crosstile_translate() -> int:
    """``crosstile-translate``."""
    return _run("crosstile.tools.translate")


def _leave(*_: object) -> None:
    os._exit(INTERRUPTED)


def _run(module: str) -> int:
    """Import a tool and run its ``main``."""
    try:
        signal.signal(signal.SIGINT, _leave)
        from importlib import import_module

        main = import_module(module).main
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = main()
        __import__("gc").freeze()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
