"""Reading SASS: opcodes, stall counts and loops, from text as nvdisasm prints it."""

from __future__ import annotations

from crosstile.targets.nvidia.sass import read_sass


def _line(address: int, text: str, stall: int) -> str:
    return f"        /*{address:04x}*/   {text} ;   /* 0x{0x1234:016x} */\n   /* 0x{stall << 41 | 0xFE0:016x} */\n"


TEXT = (
    ".text.gemm:\n"
    + _line(0x00, "MOV R1, c[0x0][0x28]", 2)
    + ".L_x_0:\n"
    + _line(0x10, "LDSM.16.M88.4 R4, [R2]", 1)
    + ".L_x_1:\n"
    + _line(0x20, "HMMA.16816.F32.BF16 R8, R4, R6, R8", 10)
    + _line(0x30, "@P0 BRA `(.L_x_1)", 5)
    + _line(0x40, "@!P1 BRA `(.L_x_0)", 3)
    + _line(0x50, "EXIT", 15)
    + ".L_x_2:\n"
    + _line(0x60, "BRA `(.L_x_2)", 0)
)


def test_instructions_have_their_stall_counts_and_targets():
    (kernel,) = read_sass(TEXT)
    assert kernel.name == "gemm"
    assert [one.stall for one in kernel.instructions] == [2, 1, 10, 5, 3, 15, 0]
    assert [one.opcode for one in kernel.instructions][1:4] == ["LDSM.16.M88.4", "HMMA.16816.F32.BF16", "BRA"]
    assert kernel.instructions[3].target == ".L_x_1"


def test_the_main_loop_is_the_innermost_one_that_multiplies():
    (kernel,) = read_sass(TEXT)
    assert [len(loop.instructions) for loop in kernel.loops()] == [2, 4]
    loop = kernel.main_loop()
    assert loop is not None
    assert (len(loop.instructions), loop.matrix_instructions, loop.count("HMMA", "BRA"), loop.stall) == (2, 1, 2, 15)


def test_code_without_loops_has_no_main_loop():
    (kernel,) = read_sass(".text.k:\n" + _line(0, "EXIT", 5))
    assert kernel.loops() == [] and kernel.main_loop() is None


def test_straight_code_ends_with_its_last_exit():
    subroutine = _line(0x00, "@P0 EXIT", 4) + _line(0x10, "EXIT", 5) + _line(0x20, "MUFU.RCP R10, R9", 2)
    (kernel,) = read_sass(".text.k:\n" + subroutine)
    assert [one.stall for one in kernel.straight.instructions] == [4, 5]
