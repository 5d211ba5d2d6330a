// RUN: crosstile-opt --split-input-file --verify-diagnostics %s

// Types

// expected-error @+1 {{is of another shape than [8, 32]}}
mma.kernel @f(%a: !mma.fragment<8x32xf32, #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>>) {}

// -----

// expected-error @+1 {{leaves some elements without a register}}
mma.kernel @f(%a: !mma.fragment<8x64xf32, #mma.layout<tile(8, 64) register(8:64) lane(16:1)>>) {}

// -----

// expected-error @+1 {{expected a static shape of at least one dimension, as in 8x64xf32}}
mma.kernel @f(%a: !mma.buffer<?x64xf32>) {}

// -----

// expected-error @+1 {{no swizzle is 96 bytes wide; legal are 32, 64, 128}}
mma.kernel @f(%a: !mma.buffer<8x64xf32, #mma.swizzle<96>>) {}

// -----

// expected-error @+1 {{a buffer has no protocol 'groups', only a ring has one}}
mma.kernel @f(%a: !mma.buffer<8x64xf32, groups>) {}

// -----

// expected-error @+1 {{a ring of depth 0 has no slot}}
mma.kernel @f(%a: !mma.ring<0 x 8x64xf32>) {}

// -----

// Kernels

// expected-error @+1 {{unknown machine 'x86-64-avx513'; did you mean 'x86-64-avx512'}}
mma.kernel @f() target "x86-64-avx513" {}

// -----

// expected-error @+1 {{has 2 mma.parallel; expects at most one, since what needs all instances to meet is two kernels}}
mma.kernel @f(%n: index) {
  mma.parallel %a to %b = %n to %n grain 8 {}
  mma.parallel %a to %b = %n to %n grain 8 {}
}

// -----

// expected-error @+1 {{'f' has mma.ring outside its mma.parallel; scratch belongs to one instance}}
mma.kernel @f(%n: index) {
  %ring = mma.ring : !mma.ring<4 x 8x8xf32>
  mma.parallel %a to %b = %n to %n grain 8 {}
}

// -----

mma.kernel @f(%n: index) {
  // expected-error @+1 {{has 2 lower and 2 upper bounds; expects 1 of each, one per dimension}}
  mma.parallel (%i, %j), (%mc, %nc) = (%n, %n) to (%n, %n) step (128) {}
}

// -----

mma.kernel @f(%n: index) {
  // expected-error @+1 {{a raster is a positive number of rows of a grid of 2 dimensions or more, found 8 of a grid of 1}}
  mma.parallel (%i), (%mc) = (%n) to (%n) step (128) raster 8 {}
}

// -----

mma.kernel @f(%n: index) {
  // expected-error @+1 {{a cluster has a positive number of blocks along each dimension of the grid, 2 or more in all, found [2] of a grid of 2}}
  mma.parallel (%i, %j), (%mc, %nc) = (%n, %n) to (%n, %n) step (128, 128) cluster [2] {}
}

// -----

mma.kernel @f(%n: index) {
  // expected-error @+1 {{a raster of 7 rows cuts clusters of 2 rows apart; the nearest that does not is 6}}
  mma.parallel (%i, %j), (%mc, %nc) = (%n, %n) to (%n, %n) step (128, 128) raster 7 cluster [2, 1] {}
}

// -----

mma.kernel @f(%n: index, %A: memref<?x64xbf16>) warps(4) {
  mma.parallel (%i, %j), (%mc, %nc) = (%n, %n) to (%n, %n) step (64, 64) cluster [2, 1] {
    %ring = mma.ring : !mma.ring<2 x 64x64xbf16>
    mma.roles {
      role @load warps(4) {
        %slot = mma.acquire %ring : !mma.ring<2 x 64x64xbf16>
        // expected-error @+1 {{multicast [0]: what is copied, or how often, depends on dimension 0 of the grid, so that the blocks of a cluster along it do not copy the same}}
        mma.copy_async %A[%i, %n] to %slot multicast [0] : memref<?x64xbf16> to !mma.slot<write 64x64xbf16>
      }
    }
  }
}

// -----

mma.kernel @f(%n: index, %A: memref<?x64xbf16>) warps(4) {
  mma.parallel (%i, %j), (%mc, %nc) = (%n, %n) to (%n, %n) step (64, 64) cluster [2, 1] {
    %ring = mma.ring : !mma.ring<2 x 64x64xbf16>
    mma.roles {
      role @load warps(4) {
        %slot = mma.acquire %ring : !mma.ring<2 x 64x64xbf16>
        // expected-error @+1 {{multicast [1]: expects distinct dimensions along which a cluster has blocks: [0]}}
        mma.copy_async %A[%i, %n] to %slot multicast [1] : memref<?x64xbf16> to !mma.slot<write 64x64xbf16>
      }
    }
  }
}

// -----

mma.kernel @f(%n: index) {
  // expected-error @+1 {{persistent is a positive number of blocks for each multiprocessor, which run the instances of a grid, found 0 of a grid of 1}}
  mma.parallel (%i), (%mc) = (%n) to (%n) step (128) persistent 0 {}
}

// -----

mma.kernel @f(%n: index) {
  // expected-error @+1 {{is persistent and has no mma.roles in its body, which alone gains from it}}
  mma.parallel (%i), (%mc) = (%n) to (%n) step (128) persistent 1 {}
}

// -----

mma.kernel @f(%n: index) {
  // expected-error @+1 {{is persistent and has mma.barrier in its body; expects mma.ring, mma.alloc, index arithmetic and one mma.roles, whose roles go on to the next instance by themselves}}
  mma.parallel (%i), (%mc) = (%n) to (%n) step (128) persistent 1 {
    mma.barrier
    mma.roles {
      role @all warps(1) {}
    }
  }
}

// -----

// expected-error @+1 {{is laid out over 1 warps, the kernel 'f' runs on 4: tile(8, 64) register(8:64, 4:16) lane(16:1)}}
mma.kernel @f(%s: f32) warps(4) {
  // A fragment says what each warp of the program holds.
  %a = mma.splat %s : f32 -> !mma.fragment<8x64xf32, #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>>
}

// -----

// Places

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index) {
  // expected-error @+1 {{1 indices are given for memory of 2 dimensions}}
  %a = mma.load %A[%i] : memref<?x?xf32> -> !mma.fragment<8x16xf32, #tile>
}

// -----

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index) {
  // expected-error @+1 {{loads f32 from memory into a fragment of f64}}
  %a = mma.load %A[%i, %i] : memref<?x?xf32> -> !mma.fragment<8x16xf64, #tile>
}

// -----

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
mma.kernel @f(%x: memref<?xf32>, %i: index) {
  // expected-error @+1 {{maps 2 tile dimensions and 1 indices to 2 coordinates; expects 2 and 1 to 1}}
  %a = mma.load %x by affine_map<(r, c)[i] -> (r, c + i)>[%i] : memref<?xf32> -> !mma.fragment<8x16xf32, #tile>
}

// -----

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index) {
  // expected-error @+1 {{clamps dimensions [1], of which some have no extent to clamp to}}
  %a = mma.load %A[%i, %i] extent [%i, _] clamp [1] : memref<?x?xf32> -> !mma.fragment<8x16xf32, #tile>
}

// -----

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index, %rows: !mma.fragment<4x1xindex, #mma.layout<tile(4, 1) register(4:1)>>) {
  // expected-error @+1 {{a tile of indices of shape [4, 1] does not broadcast to [8, 16]}}
  %a = mma.load %A[%rows : !mma.fragment<4x1xindex, #mma.layout<tile(4, 1) register(4:1)>>, %i] : memref<?x?xf32> -> !mma.fragment<8x16xf32, #tile>
}

// -----

mma.kernel @f(%b: !mma.buffer<8x16xf32>) {
  // expected-error @+1 {{the last element of the view is [15, 7], outside [8, 16]}}
  %t = mma.view %b by affine_map<(n, m) -> (n, m)> : !mma.buffer<8x16xf32> -> !mma.buffer<16x8xf32, affine_map<(n, m) -> (n, m)>>
}

// -----

// Fragments: elements must be where they are used

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
#other = #mma.layout<tile(8, 16) register(16:1) lane(8:16)>
mma.kernel @f(%a: !mma.fragment<8x16xf32, #tile>, %b: !mma.fragment<8x16xf32, #other>) {
  // expected-error @+1 {{input 1 is laid out as tile(8, 16) register(16:1) lane(8:16), but its elements must be where they are used: tile(8, 16) lane(16:1) register(8:16); mma.relayout moves data between registers}}
  %c = mma.map (%a, %b : !mma.fragment<8x16xf32, #tile>, !mma.fragment<8x16xf32, #other>) -> !mma.fragment<8x16xf32, #tile> {
  ^bb0(%x: f32, %y: f32):
    mma.yield %x : f32
  }
}

// -----

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
mma.kernel @f(%a: !mma.fragment<8x16xf32, #tile>) {
  // expected-error @+1 {{expects 16x8 elements of f32}}
  %t = mma.transpose %a : !mma.fragment<8x16xf32, #tile> -> !mma.fragment<8x16xf32, #tile>
}

// -----

#cube = #mma.layout<tile(2, 8, 16) register(16:16) lane(16:1)>
mma.kernel @f(%a: !mma.fragment<2x8x16xf32, #cube>) {
  // expected-error @+1 {{expects a fragment of two dimensions}}
  %t = mma.transpose %a : !mma.fragment<2x8x16xf32, #cube> -> !mma.fragment<2x8x16xf32, #cube>
}

// -----

// What is one number per row is replicated in every lane of the row.
#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
#rows = #mma.layout<tile(8, 1) register(8:1)>
mma.kernel @f(%a: !mma.fragment<8x16xf32, #tile>) {
  // expected-error @+1 {{the result is laid out as tile(8, 1) register(8:1), but its elements must be where they are used: tile(8, 1) lane(16:0) register(8:1)}}
  %m = mma.reduce max %a dims [1] : !mma.fragment<8x16xf32, #tile> -> !mma.fragment<8x1xf32, #rows>
}

// -----

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
mma.kernel @f(%a: !mma.fragment<8x16xf32, #tile>) {
  // expected-error @+1 {{leaves [8, 1] of f32}}
  %m = mma.reduce max %a dims [1] : !mma.fragment<8x16xf32, #tile> -> !mma.fragment<8x16xf32, #tile>
}

// -----

#tile = #mma.layout<tile(8, 16) register(8:16) lane(16:1)>
mma.kernel @f(%a: !mma.fragment<8x16xf32, #tile>) {
  // expected-error @+1 {{its body must end in mma.yield of one f32, an element of the result}}
  %c = mma.map (%a : !mma.fragment<8x16xf32, #tile>) -> !mma.fragment<8x16xf32, #tile> {
  ^bb0(%x: f32):
    mma.yield %x, %x : f32, f32
  }
}

// -----

// Products: the intrinsic's row decides

#a = #mma.layout<tile(8, 1) register(8:1) lane(16:0)>
#b = #mma.layout<tile(1, 64) register(4:16) lane(16:1)>
#c = #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>
mma.kernel @f(%a: !mma.fragment<8x1xf32, #a>, %b: !mma.fragment<1x64xf32, #b>, %c: !mma.fragment<8x64xf32, #c>) {
  // expected-error @+1 {{unknown intrinsic 'x86.avx512.fma.1x16x1.f23'; did you mean 'x86.avx512.fma.1x16x1.f32'}}
  %d = mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f23"} : !mma.fragment<8x1xf32, #a>, !mma.fragment<1x64xf32, #b>, !mma.fragment<8x64xf32, #c>
}

// -----

#a = #mma.layout<tile(8, 1) register(8:1) lane(16:0)>
#b = #mma.layout<tile(1, 64) register(4:16) lane(16:1)>
#c = #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>
mma.kernel @f(%a: !mma.fragment<8x1xf32, #a>, %b: !mma.fragment<1x64xf32, #b>, %c: !mma.fragment<8x64xf32, #c>) {
  // expected-error @+1 {{shapes 1x64 and 8x1 do not multiply into 8x64}}
  %d = mma.mma %b, %a, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !mma.fragment<1x64xf32, #b>, !mma.fragment<8x1xf32, #a>, !mma.fragment<8x64xf32, #c>
}

// -----

#a = #mma.layout<tile(8, 1) register(8:1) lane(8:0)>
#b = #mma.layout<tile(1, 24) register(3:8) lane(8:1)>
#c = #mma.layout<tile(8, 24) register(8:24, 3:8) lane(8:1)>
mma.kernel @f(%a: !mma.fragment<8x1xf32, #a>, %b: !mma.fragment<1x24xf32, #b>, %c: !mma.fragment<8x24xf32, #c>) {
  // expected-error @+1 {{computes 8x24x1 (m, n, k), which is no multiple of the 1x16x1 of x86.avx512.fma.1x16x1.f32}}
  %d = mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !mma.fragment<8x1xf32, #a>, !mma.fragment<1x24xf32, #b>, !mma.fragment<8x24xf32, #c>
}

// -----

// The broadcast factor must be in every lane.
#a = #mma.layout<tile(8, 1) register(8:1)>
#b = #mma.layout<tile(1, 64) register(4:16) lane(16:1)>
#c = #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>
mma.kernel @f(%a: !mma.fragment<8x1xf32, #a>, %b: !mma.fragment<1x64xf32, #b>, %c: !mma.fragment<8x64xf32, #c>) {
  // expected-error @+1 {{lhs: tile(8, 1) register(8:1) is not made of such blocks along 'lane'; x86.avx512.fma.1x16x1.f32 needs blocks laid out as tile(1, 1) lane(16:0)}}
  %d = mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !mma.fragment<8x1xf32, #a>, !mma.fragment<1x64xf32, #b>, !mma.fragment<8x64xf32, #c>
}

// -----

#a = #mma.layout<tile(8, 1) register(8:1) lane(16:0)>
#c = #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>
mma.kernel @f(%a: !mma.fragment<8x1xf32, #a>, %b: !mma.buffer<1x64xf32>, %c: !mma.fragment<8x64xf32, #c>) {
  // expected-error @+1 {{rhs is scratch; x86.avx512.fma.1x16x1.f32 takes a fragment}}
  %d = mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !mma.fragment<8x1xf32, #a>, !mma.buffer<1x64xf32>, !mma.fragment<8x64xf32, #c>
}

// -----

// Four warps in a square: the left factor of a warp's quarter must be in that warp. Here it is where the right one belongs.
#lhs = #mma.layout<tile(32, 16) warp(2:0, 2:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
#rhs = #mma.layout<tile(16, 16) warp(2:0, 2:8) register(2:128, 2:16) lane(8:1, 4:32)>
#acc = #mma.layout<tile(32, 16) warp(2:256, 2:8) register(2:128, 2:1) lane(8:16, 4:2)>
mma.kernel @f(%a: !mma.fragment<32x16xbf16, #lhs>, %b: !mma.fragment<16x16xbf16, #rhs>, %c: !mma.fragment<32x16xf32, #acc>) {
  // expected-error @+1 {{lhs: unit (1,) computes block (0, 1) of the accumulator and does not hold block (0, 0) of lhs}}
  %d = mma.mma %a, %b, %c {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : !mma.fragment<32x16xbf16, #lhs>, !mma.fragment<16x16xbf16, #rhs>, !mma.fragment<32x16xf32, #acc>
}

// -----

// Pending fragments

#acc = #mma.layout<tile(64, 64) warp(4:1024) register(8:8, 2:512, 2:1) lane(8:64, 4:2)>
!acc = !mma.fragment<64x64xf32, #acc>
mma.kernel @f(%A: memref<?x?xf32>, %i: index, %p: !mma.pending<!acc>) warps(4) {
  // expected-error @+1 {{expected a fragment, !mma.fragment<...>, got !mma.pending<}}
  mma.store %p, %A[%i, %i] : !mma.pending<!acc>, memref<?x?xf32>
}

// -----

#acc = #mma.layout<tile(64, 64) warp(4:1024) register(8:8, 2:512, 2:1) lane(8:64, 4:2)>
!acc = !mma.fragment<64x64xf32, #acc>
!slot = !mma.slot<read 64x64xbf16>
mma.kernel @f(%s: !slot, %p: !mma.pending<!acc>) warps(4) {
  // expected-error @+1 {{accumulates into a pending fragment that is used elsewhere too; its registers are overwritten here}}
  %q = mma.mma_async %s, %s, %p {intrinsic = "nvidia.wgmma.m64n64k16.f32.bf16"} : !slot, !slot, !mma.pending<!acc>
  %c = mma.await %p : !mma.pending<!acc> -> !acc
}

// -----

#acc = #mma.layout<tile(64, 64) warp(4:1024) register(8:8, 2:512, 2:1) lane(8:64, 4:2)>
!acc = !mma.fragment<64x64xf32, #acc>
!slot = !mma.slot<read 64x64xbf16>
!write = !mma.slot<write 64x64xbf16>
mma.kernel @f(%s: !slot, %w: !write, %c: !acc) warps(4) {
  // expected-error @+1 {{reads a slot that has been acquired for writing; a slot is readable between mma.wait and mma.release}}
  %q = mma.mma_async %s, %w, %c {intrinsic = "nvidia.wgmma.m64n64k16.f32.bf16"} : !slot, !write, !acc
}

// -----

// A slot that a pending product still reads cannot be released ...

#acc = #mma.layout<tile(64, 64) warp(4:1024) register(8:8, 2:512, 2:1) lane(8:64, 4:2)>
!acc = !mma.fragment<64x64xf32, #acc>
!slot = !mma.slot<read 64x64xbf16>
mma.kernel @f(%s: !slot, %t: !slot, %c: !acc) warps(4) {
  %p = mma.mma_async %s, %t, %c {intrinsic = "nvidia.wgmma.m64n64k16.f32.bf16"} : !slot, !slot, !acc
  // expected-error @+1 {{may still read it; an mma.await that leaves at most 0 in flight must come first}}
  mma.release %t : !slot
  %d = mma.await %p : !mma.pending<!acc> -> !acc
}

// -----

// ... nor seen through a view ...

#acc = #mma.layout<tile(64, 64) warp(4:1024) register(8:8, 2:512, 2:1) lane(8:64, 4:2)>
!acc = !mma.fragment<64x64xf32, #acc>
!slot = !mma.slot<read 64x64xbf16>
!view = !mma.slot<read 64x64xbf16, affine_map<(n, k) -> (k, n)>>
mma.kernel @f(%s: !slot, %t: !slot, %c: !acc) warps(4) {
  %v = mma.view %t by affine_map<(n, k) -> (k, n)> : !slot -> !view
  %p = mma.mma_async %s, %v, %c {intrinsic = "nvidia.wgmma.m64n64k16.f32.bf16"} : !slot, !view, !acc
  // expected-error @+1 {{releases slot %t while the pending mma.mma_async}}
  mma.release %t : !slot
  %d = mma.await %p : !mma.pending<!acc> -> !acc
}

// -----

// ... nor on one path only ...

#acc = #mma.layout<tile(64, 64) warp(4:1024) register(8:8, 2:512, 2:1) lane(8:64, 4:2)>
!acc = !mma.fragment<64x64xf32, #acc>
!pending = !mma.pending<!acc>
!slot = !mma.slot<read 64x64xbf16>
mma.kernel @f(%s: !slot, %t: !slot, %c: !acc, %condition: i1) warps(4) {
  %p = mma.mma_async %s, %t, %c {intrinsic = "nvidia.wgmma.m64n64k16.f32.bf16"} : !slot, !slot, !acc
  %q = scf.if %condition -> (!pending) {
    %r = mma.await %p in_flight 0 : !pending -> !pending
    scf.yield %r : !pending
  } else {
    scf.yield %p : !pending
  }
  // expected-error @+1 {{releases slot %s while the pending mma.mma_async}}
  mma.release %s : !slot
}

// -----

// ... nor in the next round of a loop.

#acc = #mma.layout<tile(64, 64) warp(4:1024) register(8:8, 2:512, 2:1) lane(8:64, 4:2)>
!acc = !mma.fragment<64x64xf32, #acc>
!pending = !mma.pending<!acc>
!ring = !mma.ring<4 x 64x64xbf16>
!slot = !mma.slot<read 64x64xbf16>
mma.kernel @f(%a: !slot, %first: !slot, %p0: !pending, %n: index) warps(4) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %ring = mma.ring : !ring
  %p, %last = scf.for %t = %zero to %n step %one iter_args(%before = %p0, %s_before = %first) -> (!pending, !slot) {
    %s = mma.wait %ring : !ring
    %q = mma.mma_async %a, %s, %before {intrinsic = "nvidia.wgmma.m64n64k16.f32.bf16"} : !slot, !slot, !pending
    %r = mma.await %q in_flight 2 : !pending -> !pending
    // expected-error @+1 {{an mma.await that leaves at most 1 in flight must come first}}
    mma.release %s_before : !slot
    scf.yield %r, %s : !pending, !slot
  }
}

// -----

// Rings

mma.kernel @f(%A: memref<?x?xbf16>, %i: index, %s: !mma.slot<read 64x64xbf16>) {
  // expected-error @+1 {{copies into a slot that has been waited for; a slot is writable between mma.acquire and mma.commit}}
  mma.copy_async %A[%i, %i] to %s : memref<?x?xbf16> to !mma.slot<read 64x64xbf16>
}

// -----

mma.kernel @f(%A: memref<?x?xf32>, %i: index, %s: !mma.slot<write 64x64xbf16>) {
  // expected-error @+1 {{copies f32 into a slot of bf16; a copy converts nothing}}
  mma.copy_async %A[%i, %i] to %s : memref<?x?xf32> to !mma.slot<write 64x64xbf16>
}

// -----

mma.kernel @f(%s: !mma.slot<read 64x64xbf16>) {
  // expected-error @+1 {{expects a slot that mma.acquire gave, !mma.slot<write ...>}}
  mma.commit %s : !mma.slot<read 64x64xbf16>
}

// -----

mma.kernel @f(%s: !mma.slot<write 64x64xbf16>) {
  // expected-error @+1 {{expects a slot that mma.wait gave, !mma.slot<read ...>}}
  mma.release %s : !mma.slot<write 64x64xbf16>
}

// -----

mma.kernel @f(%r: !mma.ring<4 x 64x64xbf16>) {
  // expected-error @+1 {{'in_flight' counts commit groups: it is at least 0, and rings of protocol barriers have none}}
  %s = mma.wait %r in_flight 1 : !mma.ring<4 x 64x64xbf16>
}

// -----

// Roles: rings are the only channel

// expected-error @+1 {{runs on 8 warps, and its roles share out 4}}
mma.kernel @f() warps(8) {
  mma.roles {
    role @load warps(4) {}
  }
}

// -----

#tile = #mma.layout<tile(64, 16) warp(4:256) register(8:32) lane(2:16, 16:1)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index, %s: f32) warps(8) {
  %a = mma.splat %s : f32 -> !mma.fragment<64x16xf32, #mma.layout<tile(64, 16) warp(8:128) register(4:32) lane(2:16, 16:1)>>
  // expected-error @+1 {{role @store uses %a, a fragment of the program around the roles, in mma.store; rings are the only channel between roles}}
  mma.roles {
    role @load warps(4) {}
    role @store warps(4) {
      mma.store %a, %A[%i, %i] : !mma.fragment<64x16xf32, #mma.layout<tile(64, 16) warp(8:128) register(4:32) lane(2:16, 16:1)>>, memref<?x?xf32>
    }
  }
}

// -----

#tile = #mma.layout<tile(64, 16) warp(4:256) register(8:32) lane(2:16, 16:1)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index, %s: f32) warps(8) {
  // expected-error @+1 {{role @write writes %A, which role @read uses too; rings are the only channel between roles}}
  mma.roles {
    role @write warps(4) {
      %a = mma.splat %s : f32 -> !mma.fragment<64x16xf32, #tile>
      mma.store %a, %A[%i, %i] : !mma.fragment<64x16xf32, #tile>, memref<?x?xf32>
    }
    role @read warps(4) {
      %a = mma.load %A[%i, %i] : memref<?x?xf32> -> !mma.fragment<64x16xf32, #tile>
    }
  }
}

// -----

mma.kernel @f() warps(8) {
  %ring = mma.ring : !mma.ring<4 x 64x64xbf16>
  // expected-error @+1 {{roles @one and @two both wait for ring %ring; a ring has one producer and one consumer}}
  mma.roles {
    role @one warps(4) { %s = mma.wait %ring : !mma.ring<4 x 64x64xbf16> }
    role @two warps(4) { %s = mma.wait %ring : !mma.ring<4 x 64x64xbf16> }
  }
}

// -----

mma.kernel @f() warps(8) {
  %ring = mma.ring : !mma.ring<4 x 64x64xbf16, groups>
  // expected-error @+1 {{role @one shares ring %ring of protocol groups with another role; only protocol barriers tells other roles that a slot is full}}
  mma.roles {
    role @one warps(4) { %s = mma.acquire %ring : !mma.ring<4 x 64x64xbf16, groups> }
    role @two warps(4) { %s = mma.wait %ring : !mma.ring<4 x 64x64xbf16, groups> }
  }
}

// -----

#tile = #mma.layout<tile(64, 16) warp(4:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index, %s: f32) {
  %a = mma.splat %s : f32 -> !mma.fragment<64x16xf32, #tile>
  %p = mma.alloc : !mma.buffer<64x12xf32>
  // expected-error @+1 {{a fragment of [64, 16] is not made up of pieces of [64, 12]}}
  mma.store %a, %A[%i, %i] through %p : !mma.fragment<64x16xf32, #tile>, memref<?x?xf32>, !mma.buffer<64x12xf32>
}

// -----

#tile = #mma.layout<tile(64, 16) warp(4:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index, %s: f32) {
  %a = mma.splat %s : f32 -> !mma.fragment<64x16xf32, #tile>
  %p = mma.alloc : !mma.buffer<64x8xbf16>
  // expected-error @+1 {{f32 goes through !mma.buffer<64x8xbf16>, of another element type}}
  mma.store %a, %A[%i, %i] through %p : !mma.fragment<64x16xf32, #tile>, memref<?x?xf32>, !mma.buffer<64x8xbf16>
}

// -----

#tile = #mma.layout<tile(64, 16) warp(4:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
mma.kernel @f(%A: memref<?x?xf32>, %i: index, %s: f32) {
  %a = mma.splat %s : f32 -> !mma.fragment<64x16xf32, #tile>
  %p = mma.alloc : !mma.buffer<64x8xf32>
  // expected-error @+1 {{other operations of the kernel use the memref: what goes 'through' a buffer is there when it ends}}
  mma.store %a, %A[%i, %i] through %p : !mma.fragment<64x16xf32, #tile>, memref<?x?xf32>, !mma.buffer<64x8xf32>
  %b = mma.load %A[%i, %i] : memref<?x?xf32> -> !mma.fragment<64x16xf32, #tile>
}

// -----

mma.kernel @f() warps(4) {
  %ring = mma.ring : !mma.ring<2 x 32x64xi8>
  %a = mma.wait %ring : !mma.ring<2 x 32x64xi8>
  %b = mma.acquire %ring : !mma.ring<2 x 32x64xi8>
  // expected-error @+1 {{copies !mma.slot<read 32x64xi8> into !mma.slot<write 32x64xi8>; expects 64x32 elements of i8}}
  mma.copy_transposed %a to %b : !mma.slot<read 32x64xi8> to !mma.slot<write 32x64xi8>
}

// -----

mma.kernel @f() warps(4) {
  %ring = mma.ring : !mma.ring<2 x 32x32xi8>
  %a = mma.acquire %ring : !mma.ring<2 x 32x32xi8>
  %b = mma.acquire %ring : !mma.ring<2 x 32x32xi8>
  // expected-error @+1 {{copies a slot to write into one to write; expects a slot that mma.wait gave, and one that mma.acquire gave}}
  mma.copy_transposed %a to %b : !mma.slot<write 32x32xi8> to !mma.slot<write 32x32xi8>
}
