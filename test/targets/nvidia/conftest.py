"""Tests of other people's PTX need the extra that compiles it."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("triton") else ["test_triton.py"]
