"""``tile-to-mma`` for machines whose programs are blocks of warps: a tile is spread over the lanes of all of them.

Level: ``tile`` to ``mma``. In: tile kernels. Out: kernels of the ``mma`` level for a block of warps with shared memory.
A tile lives in registers, and which lane holds what follows from the contractions (``assignment``): their instruction
decides, and whatever is computed from or for them follows; all else is laid out for wide accesses to memory. A staged
window becomes a slot of a ring in shared memory, filled by asynchronous copies as many trips ahead as the loop's
``pipeline`` says::

    %sum = tile.for %k, %kc = %zero to %K step 32 iter_args(%acc = %start) -> (...) pipeline(4) {
      %a = tile.stage %aw : ...  %b = tile.stage %bw : ...
      %next = tile.contract %a, %b, %acc extent %kc : ...
    ==>
    %ring_a = mma.ring : !mma.ring<4 x 128x32xbf16, #mma.swizzle<64>, groups>
    scf.for ... { mma.acquire, mma.copy_async, mma.commit }          three trips ahead
    %sum = scf.for ... iter_args(...) { mma.wait, mma.barrier, copies of trip t + 3, mma.load, mma.mma, mma.release }

Files: ``layouts`` (of products, and for memory), ``assignment`` (of a kernel's tiles), ``state`` (what rules share),
``rules``, ``contract``, ``stages`` (rings and the copies that fill them).
"""
