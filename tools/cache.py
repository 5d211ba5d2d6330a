"""``crosstile cache``: where compiled programs are kept, how many, and how to delete them.

In: nothing but the environment (``CROSSTILE_CACHE``, ``CROSSTILE_CACHE_DIR``, ``CROSSTILE_CACHE_LIMIT``).
Docs: docs/cache.md.

    crosstile cache info
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from crosstile.ir.registry import did_you_mean
from crosstile.tools.command_line import ArgumentParser, UsageError, run_tool, write_output
from crosstile.tools.object_cache import SWITCH, ObjectCache, cache_directory, cache_limit, is_enabled, is_program

PROG = "crosstile cache"
ACTIONS = {
    "info": "say where it is, how many programs it holds and how large it is",
    "path": "print its directory",
    "clear": "delete all compiled programs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on ``argv`` and return its exit code."""
    return run_tool(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    actions = "".join(f"  {name:<6} {summary}\n" for name, summary in ACTIONS.items())
    parser = ArgumentParser(PROG, "Compiled programs that are kept on disk.", f"actions:\n{actions}")
    parser.add_argument("action", nargs="?", metavar="ACTION", help="info, path or clear")
    parser.add_argument("--debug", action="store_true", help="show a Python traceback with every error")
    parser.add_argument("-h", "--help", action="store_true", help="print this help and exit")
    arguments = parser.parse(argv)
    if arguments.help:
        write_output(None, parser.format_help())
        return 0
    if arguments.action is None:
        raise UsageError("what to do with the cache?").with_note(f"actions: {', '.join(ACTIONS)}")
    if arguments.action not in ACTIONS:
        known = did_you_mean(arguments.action, list(ACTIONS))
        raise UsageError(f"unknown action '{arguments.action}'{known}").with_note(f"actions: {', '.join(ACTIONS)}")
    cache = ObjectCache(cache_directory(), cache_limit())
    if arguments.action == "path":
        write_output(None, f"{cache.directory}\n")
    elif arguments.action == "info":
        write_output(None, _info(cache))
    else:
        write_output(None, f"{_programs(cache.clear())} deleted from {cache.directory}\n")
    return 0


def _info(cache: ObjectCache) -> str:
    count, size = 0, 0
    for path in cache.files():
        with suppress(FileNotFoundError):  # another process is clearing it
            size += path.stat().st_size
            count += is_program(path)
    state = "" if is_enabled() else f", switched off by {SWITCH}"
    return (
        f"{cache.directory}{state}\n  {_programs(count)}, {size / 1e6:.1f} MB of at most {cache.limit / 1e6:.0f} MB\n"
    )


def _programs(count: int) -> str:
    return f"{count} compiled program{'' if count == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
