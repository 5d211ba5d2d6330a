"""What every command shares: reading input, whole-or-nothing output, one clear error instead of a traceback.

A tool is ``main(argv) -> exit code`` and runs its work inside :func:`run_tool`::

    def main(argv: Sequence[str] | None = None) -> int:
        return run_tool("crosstile-x", _run, argv)

Exit codes: 0 right, 1 an error of any kind, 130 interrupted, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from time import monotonic
from typing import NoReturn

from crosstile.ir.diagnostics import CrosstileError, Diagnostic, handle_diagnostics
from crosstile.ir.registry import did_you_mean
from crosstile.ir.rendering import error_diagnostic, render

STDIN = "<stdin>"
RECURSION_LIMIT = 20_000
"""Deep enough for some hundred nested regions; Python's own limit of 1000 ends at about forty."""

_sources: ContextVar[dict[str, str] | None] = ContextVar("sources", default=None)
"""The texts that the running tool has read, by name: errors show their lines."""

CLEAR_LINE = "\r\x1b[K"
PATIENCE = 0.3
"""Seconds after which a terminal is told what takes so long."""


class UsageError(CrosstileError):
    """The command line itself is wrong."""


class ReportedError(Exception):
    """Errors were already shown; the tool only has to fail."""


class ArgumentParser(argparse.ArgumentParser):
    """argparse with exit code 1, the nearest flag in the message, no abbreviations, and no usage dump on errors."""

    def __init__(self, prog: str, description: str, epilog: str | None = None):
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            add_help=False,
            formatter_class=_HelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the usage error instead of exiting with code 2."""
        found = re.fullmatch(r"argument (?:-o/)?(\S+): expected one argument", message)
        if found is not None:
            message = f"flag '{found.group(1)}' needs a value"
        found = re.fullmatch(r"argument (\S+): ignored explicit argument .*", message)
        if found is not None:
            message = f"flag '{found.group(1)}' takes no value"
        raise UsageError(message).with_note(f"'{self.prog} --help' lists the flags")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The parsed arguments; an unknown one is an error with the nearest known flag."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            self.error(unknown_argument(unknown[0], self.flags()))
        return arguments

    def flags(self) -> list[str]:
        """All flags, as written."""
        return [flag for action in self._actions for flag in action.option_strings]


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=34, width=110)


def unknown_argument(argument: str, known: list[str]) -> str:
    """The message for an argument that is no flag."""
    if argument.startswith("-"):
        flag = argument.split("=")[0]
        return f"unknown flag '{flag}'{did_you_mean(flag, known)}"
    return f"unexpected argument '{argument}'; one input file is expected"


def run_tool(prog: str, body: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Run ``body`` on the arguments (``sys.argv`` by default); whatever goes wrong becomes one clear message.

    ``--debug`` among the arguments shows the traceback as well.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
    sources = _sources.set({})
    try:
        code = _interruptibly(body, arguments)
        sys.stdout.flush()
        return code
    except ReportedError:
        return 1
    except BrokenPipeError:
        _forget_stdout()
        return 141
    except KeyboardInterrupt:
        _say(f"{prog}: interrupted\n")
        return 130
    except CrosstileError as error:
        show_error(prog, error, debug)
    except OSError as error:
        _traceback(debug)
        _say(f"{prog}: error: {os_error_text(error)}\n")
        _forget_stdout()
    except RecursionError:
        _traceback(debug)
        _say(f"{prog}: error: the program is nested too deeply\n")
    except MemoryError as error:
        _traceback(debug)
        _say(f"{prog}: error: {f'out of memory: {error}'.removesuffix(': ')}\n")
    except Exception as error:
        _traceback(debug)
        hint = "" if debug else "; --debug shows the traceback"
        _say(f"{prog}: internal error: {type(error).__name__}: {error}{hint}\n")
    finally:
        sys.setrecursionlimit(limit)
        _sources.reset(sources)
    return 1


def _interruptibly(body: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Run ``body``; whatever an interrupt was turned into on its way is a KeyboardInterrupt again.

    Extension modules that are interrupted while they are imported say that they cannot be imported, and what is raised
    in a destructor or in a callback of a weak reference is dropped by Python: then the command ran to its end.
    """
    seen: list[int] = []

    def interrupt(number: int, _: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    is_ours = threading.current_thread() is threading.main_thread()
    is_ours = is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        code = body(arguments)
        if seen:
            raise KeyboardInterrupt
        return code
    except Exception as error:
        if seen:
            raise KeyboardInterrupt from error
        raise
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def show_error(prog: str, error: CrosstileError, debug: bool = False) -> None:
    """Render ``error`` on standard error; one without a place in a file is attributed to the tool ``prog``."""
    _traceback(debug)
    text = render(error_diagnostic(error), _sources.get() or {})
    _say(f"{prog}: {text}" if text.startswith("error:") else text)


def show_diagnostic(diagnostic: Diagnostic) -> None:
    """Show a warning or a remark on standard error with its source line."""
    _say(render(diagnostic, _sources.get() or {}))


def read_text(path: str) -> tuple[str, str]:
    """The name (for messages) and the text of the input ``path``; ``-`` is standard input.

    Errors of the running tool show lines of this text. Raises :class:`UsageError` for a missing or unreadable file, a
    directory, or bytes that are not text.
    """
    name, text = _read(path)
    if (sources := _sources.get()) is not None:
        sources[name] = text
    return name, text


def _read(path: str) -> tuple[str, str]:
    if path == "-":
        if sys.stdin.isatty():
            _say("(reading from the terminal; Ctrl-D ends the input, Ctrl-C interrupts)\n")
        return STDIN, _decode(STDIN, sys.stdin.buffer.read())
    try:
        with open(path, "rb") as stream:
            return path, _decode(path, stream.read())
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"cannot read {path!r}: {error}") from error


def read_source(source: str | os.PathLike[str]) -> tuple[str, str]:
    """The name and the text of a program: the contents of a path, or the text itself (a line break or a brace)."""
    if isinstance(source, str) and ("\n" in source or "{" in source):
        return "<string>", source
    return read_text(os.fspath(source))


def write_output(path: str | None, data: str | bytes) -> None:
    """Write ``data`` to ``path`` completely or not at all; ``-`` and None are standard output.

    A file is written beside its place and renamed, so a reader never sees half of it, and on an error the old contents
    stay. Raises :class:`UsageError` if it cannot be written.
    """
    if path in (None, "-"):
        if isinstance(data, str):
            sys.stdout.write(data)
        else:
            sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        _write_file(os.path.realpath(path), data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror or error}") from error


def _write_file(path: str, data: bytes) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        mode = stat.S_IFREG | (0o666 & ~umask)
    if not stat.S_ISREG(mode):
        # A device or a pipe (/dev/null, /dev/stdout) is written to; renaming over it would destroy it.
        with open(path, "wb") as stream:
            stream.write(data)
        return
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise PermissionError(13, "Permission denied")
    handle, temporary = tempfile.mkstemp(prefix=".crosstile-", dir=os.path.dirname(path) or ".")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def check_writable(path: str) -> None:
    """Raise the :class:`UsageError` that ``write_output`` would, before long work instead of after it."""
    if path == "-":
        return
    folder = os.path.dirname(os.path.realpath(path))
    reason = ""
    if os.path.isdir(path):
        reason = os.strerror(errno.EISDIR)
    elif not os.path.isdir(folder):
        reason = os.strerror(errno.ENOENT)
    elif not os.access(path if os.path.exists(path) else folder, os.W_OK):
        reason = os.strerror(errno.EACCES)
    if reason:
        raise UsageError(f"cannot write '{path}': {reason}")


class Progress:
    """Says on a terminal what is being done, if it takes long enough to be read; nothing is left of it at the end.

    with Progress("compiling") as progress:
        ...
        progress.say("running")
    """

    def __init__(self, what: str = "working"):
        self._what = what
        self._shown = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            if self._shown:
                _say(CLEAR_LINE)

    def say(self, what: str) -> None:
        """What is done from now on."""
        self._what = what

    def _show(self) -> None:
        begin = monotonic()
        while not self._done.wait(PATIENCE):
            self._shown = True
            _say(f"{CLEAR_LINE}{self._what} ... {monotonic() - begin:.0f} s")


def _decode(name: str, data: bytes) -> str:
    if data.startswith(b"ML\xefR"):
        raise UsageError(f"'{name}' is MLIR bytecode; its textual form is needed (mlir-opt prints it)")
    try:
        # Some editors begin a file with a byte order mark, which is no part of the text.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"'{name}' is not a text file: byte 0x{data[error.start]:02x} at {error.start}") from error
    if "\0" in text:
        raise UsageError(f"'{name}' is not a text file: byte 0x00 at {len(text[: text.index(chr(0))].encode())}")
    return text


def os_error_text(error: OSError) -> str:
    """``reason: 'file'`` of an error of the operating system."""
    reason = error.strerror or str(error)
    return f"{reason}: '{error.filename}'" if error.filename else reason


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _traceback(debug: bool) -> None:
    if debug and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()


def _forget_stdout() -> None:
    """Keep the interpreter from flushing the broken standard output once more at exit."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


__all__ = [
    "STDIN",
    "ArgumentParser",
    "Progress",
    "ReportedError",
    "UsageError",
    "check_writable",
    "handle_diagnostics",
    "os_error_text",
    "read_source",
    "read_text",
    "run_tool",
    "show_diagnostic",
    "show_error",
    "unknown_argument",
    "write_output",
]
