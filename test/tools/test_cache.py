"""Compiled programs on disk: found again, without the compiler; rebuilt when anything differs or is damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep, time
from typing import Any

import numpy as np
import pytest

import crosstile
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.targets.host import default_target
from crosstile.tools import object_cache
from crosstile.tools.cache import main
from crosstile.tools.object_cache import ObjectCache, object_key
from crosstile.tools.on_demand import ProgramOnDemand

ROOT = Path(__file__).resolve().parents[2]
MATMUL = ROOT / "examples" / "matmul.mlir"
ADD = """func.func @main(%x: tensor<?x4xf32>, %row: tensor<4xf32>) -> tensor<?x4xf32> {
  %y = nn.add %x, %row : tensor<?x4xf32>, tensor<4xf32>
  func.return %y : tensor<?x4xf32>
}
"""
X, ROW = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones(4, np.float32)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSTILE_CACHE", "1")
    monkeypatch.setenv("CROSSTILE_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def is_cached(function: crosstile.CompiledFunction) -> bool:
    return list(function.compile_seconds) == ["cache", "load"]


def objects(directory: Path) -> list[Path]:
    return sorted(directory.glob("*/*.object"))


def test_a_program_is_compiled_once(directory: Path):
    first, second = crosstile.compile(ADD), crosstile.compile(ADD)
    assert not is_cached(first) and is_cached(second)
    assert second.kernels == first.kernels != []
    assert second.host_function.signature == first.host_function.signature
    for function in (first, second):
        np.testing.assert_array_equal(function(X, ROW), X + ROW)
        with pytest.raises(crosstile.CrosstileError, match=r"argument 1 \('row'\): expected float32 of shape \(4,\)"):
            function(X, X)
    assert len(objects(directory)) == 1
    assert [path.suffix for path in ObjectCache(directory).files()] == [".object"]


def test_a_path_its_text_and_its_module_are_kept(directory: Path):
    (directory.parent / "add.mlir").write_text(ADD)
    crosstile.compile(ADD)
    assert is_cached(crosstile.compile(directory.parent / "add.mlir"))
    module = parse_module(ADD, "add.mlir", make_context())
    assert not is_cached(crosstile.compile(module)) or len(objects(directory)) == 1
    assert is_cached(crosstile.compile(module))


def test_checks_at_run_time_survive(directory: Path):
    messages: set[str] = set()
    for cached in (False, True):
        matmul = crosstile.compile(MATMUL)
        assert is_cached(matmul) == cached
        with pytest.raises(crosstile.CrosstileError, match=r"@main: .+") as raised:
            matmul(np.ones((2, 3), np.float32), np.ones((4, 5), np.float32))
        messages.add(str(raised.value))
    assert len(messages) == 1


def test_all_that_decides_is_in_the_key(monkeypatch: pytest.MonkeyPatch):
    keys = [
        object_key(ADD, "host", "nn", None),
        object_key(ADD + " ", "host", "nn", None),
        object_key(ADD, "generic", "nn", None),
        object_key(ADD, "host", "nest", None),
        object_key(ADD, "host", "nn", "main"),
    ]
    for change in ("crosstile.targets.host.host_fingerprint", "crosstile.tools.object_cache._compiler"):
        with monkeypatch.context() as patch:
            patch.setattr(change, lambda: "another")
            keys.append(object_key(ADD, "host", "nn", None))
    assert len(set(keys)) == len(keys)
    assert object_key(ADD, "host", "nn", None) == keys[0]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_a_damaged_object_is_rebuilt(directory: Path, damage: str):
    crosstile.compile(ADD)
    (path,) = objects(directory)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes({"empty": b"", "cut": whole[:-1], "flipped": bytes(flipped), "other": b"no object\n{}\n"}[damage])
    function = crosstile.compile(ADD)
    assert not is_cached(function)
    np.testing.assert_array_equal(function(X, ROW), X + ROW)
    assert is_cached(crosstile.compile(ADD)), "the damaged file was replaced"


def test_an_object_of_another_form_is_rebuilt(directory: Path):
    key = object_key(ADD, default_target(), "nn", None)
    for description, code in (({}, b""), (crosstile.compile(ADD).host_function.signature.to_json(), b"no code")):
        ObjectCache(directory).store(key, description, code)
        function = crosstile.compile(ADD)
        assert not is_cached(function)
        np.testing.assert_array_equal(function(X, ROW), X + ROW)


def test_switched_off(directory: Path, monkeypatch: pytest.MonkeyPatch):
    for value in ("0", "off"):
        monkeypatch.setenv("CROSSTILE_CACHE", value)
        assert not is_cached(crosstile.compile(ADD))
    assert not directory.exists()


def test_without_a_place_to_write_one_remark_is_made(directory: Path, capsys: pytest.CaptureFixture[str]):
    directory.write_text("a file is no directory")
    for text in (ADD, ADD + "\n"):
        np.testing.assert_array_equal(crosstile.compile(text)(X, ROW), X + ROW)
    remarks = capsys.readouterr().err
    assert remarks.count("remark: compiled programs are not kept") == 1
    assert str(directory) in remarks


def test_a_full_disk_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(object_cache.os, "replace", fail)
    np.testing.assert_array_equal(crosstile.compile(ADD)(X, ROW), X + ROW)
    assert list(ObjectCache(directory).files()) == []


def store(cache: ObjectCache, number: int, size: int, age: float = 0.0) -> Path:
    """An object of ``size`` bytes, used ``age`` seconds ago."""
    key = f"{number:064}"
    cache.store(key, {"number": number}, b"x" * size)
    (path,) = cache.directory.glob(f"*/{key}.object")
    os.utime(path, (time() - age, time() - age))
    return path


def test_what_was_used_least_recently_makes_room(tmp_path: Path):
    cache = ObjectCache(tmp_path, limit=10_000)
    first, second, third = (store(cache, number, 3_000, age=100 - number) for number in range(3))
    assert cache.load(f"{0:064}") is not None, "and now it was used"
    fourth = store(cache, 3, 3_000)
    assert [path.exists() for path in (first, second, third, fourth)] == [True, False, True, True]
    fifth = store(cache, 4, 50_000)
    assert list(cache.files()) == [fifth], "what is stored now stays, however large it is"


def test_what_a_killed_process_left_is_deleted_after_a_while(tmp_path: Path):
    cache = ObjectCache(tmp_path)
    folder = store(cache, 0, 10).parent
    old, new = folder / "old.tmp", folder / "new.tmp"
    for path, age in ((old, 7200), (new, 10)):
        path.write_text("half an object")
        os.utime(path, (time() - age, time() - age))
    store(cache, 1, 10)
    assert not old.exists() and new.exists()


def test_the_limit_is_given_in_megabytes(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CROSSTILE_CACHE_LIMIT", "3")
    cache = object_cache.object_cache()
    assert cache is not None and cache.limit == 3_000_000
    monkeypatch.setenv("CROSSTILE_CACHE_LIMIT", "much")
    with pytest.raises(crosstile.CrosstileError, match="CROSSTILE_CACHE_LIMIT must be a number of megabytes"):
        crosstile.compile(ADD)


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from crosstile.tools.object_cache import ObjectCache
cache, turn = ObjectCache(Path(sys.argv[1])), 0
while True:
    cache.store(f"{turn % 3:064}", {"turn": turn}, bytes([turn % 251]) * 3_000_000)
    turn += 1
    if turn == 3:
        print("started", flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_objects(tmp_path: Path):
    for turn in range(4):
        command = [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "started\n"
            sleep(0.003 * turn)
            writer.send_signal(signal.SIGKILL)
            assert writer.wait(timeout=60) == -signal.SIGKILL
        cache = ObjectCache(tmp_path)
        for number in range(3):
            found = cache.load(f"{number:064}")
            assert found is not None and found[1] == bytes([found[0]["turn"] % 251]) * 3_000_000


WRITE_AND_READ = """
import sys
from pathlib import Path
from crosstile.tools.object_cache import ObjectCache
cache, wrong = ObjectCache(Path(sys.argv[1])), 0
for turn in range(100):
    cache.store(f"{turn % 3:064}", {"number": int(sys.argv[2])}, bytes([int(sys.argv[2])]) * 20_000)
    found = cache.load(f"{turn % 3:064}")
    wrong += found is None or found[1] != bytes([found[0]["number"]]) * 20_000
print(wrong)
"""


def test_processes_do_not_meet(tmp_path: Path):
    commands = [[sys.executable, "-c", WRITE_AND_READ, str(tmp_path), str(number)] for number in range(3)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["0\n"] * 3
    assert len(list(ObjectCache(tmp_path).files())) == 3


def test_each_kernel_is_kept_when_sizes_first_choose_it(directory: Path):
    rows, square = np.ones((1, 70), np.float32), np.ones((70, 70), np.float32)
    first = crosstile.compile(MATMUL)
    assert len(objects(directory)) == 1, "the host functions"
    np.testing.assert_array_equal(first(square, square), 70)
    assert len(objects(directory)) == 2
    second = crosstile.compile(MATMUL)
    for _ in range(2):
        np.testing.assert_array_equal(second(square, square), 70)
        assert is_cached(second) and len(objects(directory)) == 2
    np.testing.assert_array_equal(second(rows, square), 70)
    assert not is_cached(second) and len(objects(directory)) == 3
    third = crosstile.compile(MATMUL)
    np.testing.assert_array_equal(third(rows, square), 70)
    assert is_cached(third)
    first.compile_all()
    assert len(objects(directory)) == 1 + len(first.kernels)


def test_a_kernel_of_a_module_is_compiled_from_its_text(directory: Path):
    crosstile.compile(parse_module(MATMUL.read_text(), "matmul.mlir", make_context()))
    function = crosstile.compile(parse_module(MATMUL.read_text(), "matmul.mlir", make_context()))
    assert is_cached(function)
    np.testing.assert_array_equal(function(np.ones((9, 8), np.float32), np.ones((8, 7), np.float32)), 8)
    assert not is_cached(function)


NO_COMPILER = """
import sys
import numpy as np
import crosstile
f = crosstile.compile(sys.argv[1])
a, b = np.ones((33, 44), np.float32), np.ones((44, 55), np.float32)
c = f(a, b)
assert (c == 44).all() and c.shape == (33, 55)
try:
    f(a, a)
except crosstile.CrosstileError as error:
    message = str(error)
print(list(f.compile_seconds), sorted(name for name in sys.modules if name.partition(".")[0] == "xdsl"))
"""


def test_a_cached_program_runs_without_the_compiler(directory: Path):
    crosstile.compile(MATMUL)(np.ones((33, 44), np.float32), np.ones((44, 55), np.float32))
    done = subprocess.run(
        [sys.executable, "-c", NO_COMPILER, str(MATMUL)], capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert done.stderr == "" and done.stdout == "['cache', 'load'] []\n"


RUN_WITHOUT_COMPILER = """
import sys
from crosstile.tools.main import main
code = main(["run", sys.argv[1], "--dim", "M=33", "--dim", "K=44", "--dim", "N=55", "--json"])
print(sorted(name for name in sys.modules if name.partition(".")[0] == "xdsl"), file=sys.stderr)
sys.exit(code)
"""


def test_a_cached_program_is_run_by_the_command_without_the_compiler(directory: Path):
    reports: list[dict[str, Any]] = []
    for cached in (False, True):
        command = [sys.executable, "-c", RUN_WITHOUT_COMPILER, str(MATMUL)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ)
        assert done.returncode == 0, done.stderr
        assert (done.stderr == "[]\n") == cached
        reports.append(json.loads(done.stdout))
        assert (list(reports[-1]["compile_seconds"]) == ["cache", "load", "total"]) == cached
    for same in ("program", "entry", "machine", "inputs", "results", "kernels", "operations"):
        assert reports[0][same] == reports[1][same]
    assert reports[0]["operations"] == 2 * 33 * 44 * 55


def test_facts_of_another_form_are_found_out_again(directory: Path):
    first = ProgramOnDemand(MATMUL, "host", "nn", None)
    assert (first.entry, first.operations([(3, 4), (4, 5)])) == ("main", 120)
    cache = object_cache.object_cache()
    assert cache is not None
    for path in objects(directory):
        cache.store(path.stem, {"function": "main", "names": 7}, b"")
    second = ProgramOnDemand(MATMUL, "host", "nn", None)
    assert (second.parameters, second.operations([(3, 4), (4, 5)])) == (first.parameters, 120)


def test_the_command(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    assert main(["info"]) == 0
    assert capsys.readouterr().out == f"{directory}\n  0 compiled programs, 0.0 MB of at most 256 MB\n"
    crosstile.compile(ADD)
    crosstile.compile(ADD, entry="main")
    left = objects(directory)[0].with_suffix(".tmp")
    left.write_text("what a process left that was killed")
    assert main(["path"]) == 0
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{directory}\n{directory}\n  2 compiled programs, 0.0")
    assert main(["clear"]) == 0
    assert capsys.readouterr().out == f"2 compiled programs deleted from {directory}\n"
    assert list(ObjectCache(directory).files()) == []
    monkeypatch.setenv("CROSSTILE_CACHE", "0")
    assert main(["info"]) == 0
    assert "switched off by CROSSTILE_CACHE" in capsys.readouterr().out


def test_mistakes_are_told(directory: Path, capsys: pytest.CaptureFixture[str]):
    for arguments, message in (([], "what to do"), (["inf"], "did you mean 'info'"), (["--al"], "unknown flag '--al'")):
        assert main(arguments) == 1
        assert message in capsys.readouterr().err
