"""Object code on disk, found again by what it was made of. Imports neither NumPy nor the compiler.

One file per object: a line with the checksum of the rest, a line of JSON that describes the host function, the object
code. A file is written beside its place and renamed, so other processes see all of it or nothing; the checksum finds
what was cut short or damaged, and such a file counts as missing. When all files together are larger than the limit,
those that were not used for the longest time are deleted. An object's name is the SHA-256 digest of the program's text
and everything else that decides what it is compiled to::

    key = object_key(text, target, start, entry)
    found = object_cache().load(key)
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from time import time
from typing import Any, cast

from crosstile.ir.diagnostics import CrosstileError

SWITCH = "CROSSTILE_CACHE"
DIRECTORY = "CROSSTILE_CACHE_DIR"
LIMIT = "CROSSTILE_CACHE_LIMIT"
DEFAULT_LIMIT = 256
"""Megabytes; some thousand programs."""
ABANDONED = 3600.0
"""Seconds after which a file that was never renamed is what a killed process left."""
OFF = ("0", "off", "no", "false")
SUFFIX = ".object"
PART = "-"
"""Between the name of a program and that of its part in the name of a file."""
_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = ("dialects", "ir", "lowering", "passes", "targets", "tools")


@dataclass
class ObjectCache:
    """The objects of one directory; nothing that goes wrong with files is an error, objects are then not kept."""

    directory: Path
    limit: int = DEFAULT_LIMIT * 1_000_000
    """Bytes."""
    _has_complained: bool = field(default=False, init=False)

    def load(self, key: str) -> tuple[dict[str, Any], bytes] | None:
        """Description and code of an object, None if it is missing or damaged."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)  # used now: what was used last is kept longest
        checksum, _, rest = data.partition(b"\n")
        if checksum != _checksum(rest):
            return None
        description, _, code = rest.partition(b"\n")
        return cast("dict[str, Any]", json.loads(description)), code

    def store(self, key: str, description: dict[str, Any], code: bytes) -> None:
        """Keep an object; where that is impossible, say so once."""
        rest = json.dumps(description, separators=(",", ":")).encode() + b"\n" + code
        path = self._path(key)
        temporary = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(prefix=f"{key[:16]}.", suffix=".tmp", dir=path.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.write(_checksum(rest) + b"\n" + rest)
            os.replace(temporary, path)
            self._shrink(path)
        except OSError as error:
            if temporary:
                with suppress(OSError):
                    os.unlink(temporary)
            if not self._has_complained:
                self._has_complained = True
                reason = error.strerror or str(error)
                print(
                    f"remark: compiled programs are not kept: cannot write to '{self.directory}': {reason} "
                    f"({SWITCH}=0 keeps none, {DIRECTORY} is another place)",
                    file=sys.stderr,
                )

    def _shrink(self, stored: Path) -> None:
        """Delete what was used least recently until the limit is kept, and what killed processes left."""
        found: list[tuple[float, int, Path]] = []
        for path in self.files():
            with suppress(OSError):  # other processes delete too
                status = path.stat()
                if path.suffix != SUFFIX and status.st_mtime < time() - ABANDONED:
                    path.unlink()
                elif path.suffix == SUFFIX and path != stored:
                    found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found) + stored.stat().st_size
        for _, size, path in sorted(found):
            if total <= self.limit:
                return
            with suppress(FileNotFoundError):
                path.unlink()
            total -= size

    def files(self) -> Iterator[Path]:
        """The files of the cache: objects, and what killed processes left."""
        with suppress(OSError):
            for path in sorted(self.directory.glob("*/*")):
                if path.suffix in (SUFFIX, ".tmp"):
                    yield path

    def clear(self) -> int:
        """Delete all objects and return how many programs there were; an OSError if one cannot be deleted."""
        count = 0
        for path in list(self.files()):
            with suppress(FileNotFoundError):
                path.unlink()
                count += is_program(path)
        return count

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / (key + SUFFIX)


def is_program(path: Path) -> bool:
    """Whether a file of the cache is a program's own object, not that of a part of it."""
    return path.suffix == SUFFIX and PART not in path.stem


def _checksum(data: bytes) -> bytes:
    return b"crosstile object, sha256 " + hashlib.sha256(data).hexdigest().encode()


def is_enabled() -> bool:
    """Whether ``CROSSTILE_CACHE`` leaves the cache on."""
    return os.environ.get(SWITCH, "1").lower() not in OFF


def cache_directory() -> Path:
    """``CROSSTILE_CACHE_DIR``, or ``crosstile`` in the user's cache directory of this system."""
    if given := os.environ.get(DIRECTORY):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "crosstile"


def cache_limit() -> int:
    """The bytes that ``CROSSTILE_CACHE_LIMIT`` allows, given in megabytes; a CrosstileError if it is no number."""
    text = os.environ.get(LIMIT, str(DEFAULT_LIMIT))
    if not text.isdecimal():
        raise CrosstileError(f"{LIMIT} must be a number of megabytes, found '{text}'")
    return int(text) * 1_000_000


@cache
def _cache_at(directory: Path, limit: int) -> ObjectCache:
    return ObjectCache(directory, limit)


def object_cache() -> ObjectCache | None:
    """The cache that the environment names; None if it is switched off."""
    return _cache_at(cache_directory(), cache_limit()) if is_enabled() else None


def object_key(text: str, target: str, start: str, entry: str | None, bound: bool = False) -> str:
    """The name of the object of a program: a digest of all that decides what it is compiled to.

    Imports llvmlite, which knows this processor.
    """
    from crosstile.targets.host import host_fingerprint

    facts: dict[str, object] = {"target": target, "start": start, "entry": entry, "bound": bound}
    facts |= {"host": host_fingerprint(), "compiler": _compiler()}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(b"\0")
    digest.update(text.encode())
    return digest.hexdigest()


def part_key(key: str, name: str) -> str:
    """The name of the object of a part of the program ``key``."""
    return f"{key}{PART}{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@cache
def _compiler() -> list[str]:
    """Python's version, and a digest of the compiler's files by size and time and of its libraries' versions."""
    digest = hashlib.sha256()
    for name in ("xdsl", "llvmlite"):
        # Not by importlib.metadata, whose import takes longer than all that is hashed here.
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            status, packages = os.stat(spec.origin), Path(spec.origin).parent.parent
            installed = sorted(entry for entry in os.listdir(packages) if entry.startswith(f"{name}-"))
            digest.update(f"{spec.origin} {status.st_mtime_ns} {installed}\n".encode())
    for folder in _SOURCES:
        for path, _, names in sorted(os.walk(_PACKAGE / folder)):
            for name in sorted(names):
                if not name.endswith(".pyc"):
                    status = os.stat(os.path.join(path, name))
                    digest.update(f"{path}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return [f"python {sys.version_info.major}.{sys.version_info.minor}", digest.hexdigest()]
