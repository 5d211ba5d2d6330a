"""LLVM IR, assembly and object code for processors this machine is or is not, and the loop that must come out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_code import lower, parse

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.host import host_machine
from crosstile.targets.model import Machine, machine
from crosstile.targets.x86.emit import emit

AARCH64 = replace(machine("generic"), name="arm", triple="aarch64-unknown-linux-gnu", cpu="neoverse-n1")


def micro_kernel(rows: int, vectors: int, lanes: int) -> str:
    """C[0:rows, 0:vectors*lanes] += A[0:rows, :] B, accumulators carried by the loop; A is not packed, B is."""
    tile = [(i, j) for i in range(rows) for j in range(vectors)]
    vector = f"vector<{lanes}xf32>"
    packed = f"memref<?x{vectors * lanes}xf32>"
    lines = [
        f"func.func @f(%A: memref<?x?xf32>, %B: {packed}, %C: memref<?x?xf32>, %n: index) {{",
        "%one = arith.constant 1 : index",
        *(f"%r{i} = arith.constant {i} : index" for i in range(rows)),
        *(f"%c{j} = arith.constant {lanes * j} : index" for j in range(vectors)),
        *(f"%s{i}_{j} = vector.load %C[%r{i}, %c{j}] : memref<?x?xf32>, {vector}" for i, j in tile),
        f"%z:{len(tile)} = scf.for %k = %r0 to %n step %one iter_args("
        + ", ".join(f"%a{i}_{j} = %s{i}_{j}" for i, j in tile)
        + f") -> ({', '.join([vector] * len(tile))}) {{",
        *(f"%b{j} = vector.load %B[%k, %c{j}] : {packed}, {vector}" for j in range(vectors)),
    ]
    for i in range(rows):
        lines.append(f"%x{i} = memref.load %A[%r{i}, %k] : memref<?x?xf32>")
        lines.append(f"%y{i} = vector.broadcast %x{i} : f32 to {vector}")
        lines += [f"%n{i}_{j} = vector.fma %y{i}, %b{j}, %a{i}_{j} : {vector}" for j in range(vectors)]
    lines.append(f"scf.yield {', '.join(f'%n{i}_{j}' for i, j in tile)} : {', '.join([vector] * len(tile))} }}")
    for number, (i, j) in enumerate(tile):
        lines.append(f"vector.store %z#{number}, %C[%r{i}, %c{j}] : memref<?x?xf32>, {vector}")
    return "\n".join([*lines, "func.return }"])


def inner_loop(text: str) -> list[str]:
    """The instructions between the label that a backward jump names and that jump."""
    lines = text.splitlines()
    for end, line in enumerate(lines):
        words = line.split()
        if len(words) == 2 and words[0] in ("jl", "jne", "jb") and f"{words[1]}:" in lines[:end]:
            return [line.strip() for line in lines[lines.index(f"{words[1]}:") + 1 : end]]
    raise AssertionError("no loop")


def assembly(source: str, target: Machine) -> str:
    text = emit(lower(parse(source)), target, "asm")
    assert isinstance(text, str)
    return text


def test_the_micro_kernel_is_a_loop_of_fma_without_spills():
    loop = inner_loop(assembly(micro_kernel(4, 4, 16), machine("x86-64-avx512")))
    counts = {word: sum(line.startswith(word) for line in loop) for word in ("vfmadd", "vmovups", "vbroadcastss")}
    assert counts == {"vfmadd": 16, "vmovups": 4, "vbroadcastss": 4}
    assert not any("rsp" in line for line in loop)
    addressing = [line for line in loop if not line.startswith("v")]
    assert len(addressing) <= 3 and not any(line.startswith("imul") for line in addressing), addressing


def test_the_same_kernel_on_avx2_uses_its_registers():
    text = assembly(micro_kernel(4, 2, 8), machine("x86-64-avx2"))
    loop = inner_loop(text)
    assert sum(line.startswith("vfmadd") for line in loop) == 8
    assert "zmm" not in text and not any("rsp" in line for line in loop)


@pytest.mark.parametrize("target", [machine("generic"), AARCH64], ids=lambda target: target.name)
def test_any_processor_gets_text_and_an_object(target: Machine):
    v = "vector<16xf32>"
    source = f"func.func @f(%x: {v}) -> {v} {{ %r = arith.mulf %x, %x : {v} func.return %r : {v} }}"
    text = assembly(source, target)
    assert ("fmul" in text) == (target is AARCH64)
    code = emit(lower(parse(source)), target, "obj")
    assert isinstance(code, bytes) and code.startswith(b"\x7fELF")


def test_llvm_ir_names_its_target_and_processor():
    text = emit(lower(parse("func.func @f() { func.return }")), machine("x86-64-avx512"), "llvmir")
    assert isinstance(text, str)
    assert 'target triple = "x86_64-unknown-linux-gnu"' in text
    assert '"target-cpu"="x86-64-v4"' in text


def test_unknown_formats_and_triples_are_errors():
    module = lower(parse("func.func @f() { func.return }"))
    with pytest.raises(CrosstileError, match="can be written as llvmir, asm, obj, not as 'ptx'"):
        emit(module, machine("x86-64-avx2"), "ptx")
    with pytest.raises(CrosstileError, match="LLVM has no target 'z80-unknown-cpm'"):
        emit(module, replace(AARCH64, triple="z80-unknown-cpm"), "asm")


def test_inline_assembly_of_another_architecture_is_refused_before_it_ends_the_process():
    module = parse("""llvm.func @f() {
      llvm.inline_asm has_side_effects "nop", "" : () -> ()
      llvm.return
    }""")
    for form in ("asm", "obj"):
        with pytest.raises(CrosstileError, match=r"inline assembly can be generated for .* only"):
            emit(module, AARCH64, form)
        assert emit(module, host_machine(), form)
    assert "nop" in str(emit(module, AARCH64, "llvmir"))
