// RUN: crosstile-opt %s --split-input-file --tile-to-mma=target=x86-64-avx512 | filecheck %s

// A contraction becomes a loop over k with the accumulator carried. Only the store looks beyond row %mr, so rows of A
// beyond it are read from the last valid one.
// CHECK-DAG:     #[[COLUMN:.*]] = #mma.layout<tile(4, 1) lane(16:0) register(4:1)>
// CHECK-DAG:     #[[ROW:.*]] = #mma.layout<tile(1, 32) lane(16:1) register(2:16)>
// CHECK-LABEL: mma.kernel @contract(
// CHECK-SAME:    target "x86-64-avx512"
// CHECK:         %r = scf.for %[[K:k_[0-9]+]] = %{{.*}} to %{{.*}} step %{{.*}} iter_args(%[[SUM:.*]] = %acc)
// CHECK-NEXT:      %[[AT:.*]] = arith.addi %k, %[[K]] : index
// CHECK-NEXT:      %[[A:.*]] = mma.load %A[%i, %[[AT]]] extent [%mr, _] clamp [0]
// CHECK-SAME:        -> !mma.fragment<4x1xf32, #[[COLUMN]]>
// CHECK-NEXT:      %[[B:.*]] = mma.load %B[%[[AT]], %j] extent [_, %nr]
// CHECK-SAME:        -> !mma.fragment<1x32xf32, #[[ROW]]>
// CHECK-NEXT:      %[[NEXT:.*]] = mma.mma %[[A]], %[[B]], %[[SUM]] {intrinsic = "x86.avx512.fma.1x16x1.f32"}
// CHECK-NEXT:      scf.yield %[[NEXT]]
// CHECK:         mma.store %r, %C[%i, %j] extent [%mr, %nr]
tile.kernel @contract(%A : memref<?x?xf32>, %B : memref<?x?xf32>, %C : memref<?x?xf32>,
                      %i : index, %j : index, %k : index, %mr : index, %nr : index, %kc : index) {
  %aw = tile.window %A[%i, %k] extent [%mr, %kc] : memref<?x?xf32> -> !tile.window<4x8xf32>
  %bw = tile.window %B[%k, %j] extent [%kc, %nr] : memref<?x?xf32> -> !tile.window<8x32xf32>
  %cw = tile.window %C[%i, %j] extent [%mr, %nr] : memref<?x?xf32> -> !tile.window<4x32xf32>
  %acc = tile.load %cw : !tile.window<4x32xf32> -> !tile.tile<4x32xf32>
  %r = tile.contract %aw, %bw, %acc extent %kc
    : !tile.window<4x8xf32>, !tile.window<8x32xf32> -> !tile.tile<4x32xf32>
  tile.store %r, %cw : !tile.tile<4x32xf32>, !tile.window<4x32xf32>
}

// -----

// Two steps are written out in a trip of the loop; the odd one left follows in a loop of its own.
// CHECK-LABEL: mma.kernel @unrolled(
// CHECK:         %[[PAIRS:.*]] = arith.divui %kc, %{{c2.*}} : index
// CHECK:         %[[SUM:.*]] = scf.for %k = %{{c0.*}} to %[[PAIRS]] step %{{c1.*}} iter_args(%[[S0:.*]] = %acc)
// CHECK:           %[[EVEN:.*]] = arith.muli %k, %{{c2.*}} : index
// CHECK-NEXT:      mma.load %A by affine_map<{{.*}}>[%i, %[[EVEN]]]
// CHECK-NEXT:      mma.load %B by affine_map<{{.*}}>[%[[EVEN]], %j]
// CHECK-NEXT:      %[[S1:.*]] = mma.mma %{{.*}}, %{{.*}}, %[[S0]]
// CHECK:           %[[ODD:.*]] = arith.addi %[[EVEN]], %{{c1.*}} : index
// CHECK-NEXT:      mma.load %A by affine_map<{{.*}}>[%i, %[[ODD]]]
// CHECK-NEXT:      mma.load %B by affine_map<{{.*}}>[%[[ODD]], %j]
// CHECK-NEXT:      %[[S2:.*]] = mma.mma %{{.*}}, %{{.*}}, %[[S1]]
// CHECK-NEXT:      scf.yield %[[S2]]
// CHECK:         scf.for %{{.*}} = %{{.*}} to %kc step %{{c1.*}} iter_args(%{{.*}} = %[[SUM]])
tile.kernel @unrolled(%A : memref<4x8xf32>, %B : memref<8x32xf32>, %C : memref<4x32xf32>, %i : index, %j : index,
                      %kc : index) {
  %aw = tile.window %A[%i, 0] : memref<4x8xf32> -> !tile.window<4x8xf32>
  %bw = tile.window %B[0, %j] : memref<8x32xf32> -> !tile.window<8x32xf32>
  %cw = tile.window %C[%i, %j] : memref<4x32xf32> -> !tile.window<4x32xf32>
  %acc = tile.load %cw : !tile.window<4x32xf32> -> !tile.tile<4x32xf32>
  %r = tile.contract %aw, %bw, %acc extent %kc unroll 2
    : !tile.window<4x8xf32>, !tile.window<8x32xf32> -> !tile.tile<4x32xf32>
  tile.store %r, %cw : !tile.tile<4x32xf32>, !tile.window<4x32xf32>
}

// -----

// k is channels and places of a filter in one dimension: a loop over channels, the places written out.
// CHECK-LABEL: mma.kernel @places(
// CHECK:         scf.for %k = %{{c0.*}} to %{{c8.*}} step %{{c1.*}} iter_args(%[[S0:.*]] = %acc)
// CHECK-NEXT:      mma.load %A by affine_map<{{.*}}>[%i, %k, %c0] :
// CHECK-NEXT:      mma.load %B by affine_map<{{.*}}>[%k, %j] :
// CHECK-NEXT:      %[[S1:.*]] = mma.mma %{{.*}}, %{{.*}}, %[[S0]]
// CHECK-NEXT:      mma.load %A by affine_map<{{.*}}>[%i, %k, %c1] :
// CHECK-NEXT:      mma.load %B by affine_map<{{.*}}>[%k, %{{.*}}] :
// CHECK-NEXT:      %[[S2:.*]] = mma.mma %{{.*}}, %{{.*}}, %[[S1]]
// CHECK:           %[[S3:.*]] = mma.mma %{{.*}}, %{{.*}}, %[[S2]]
// CHECK-NEXT:      scf.yield %[[S3]]
tile.kernel @places(%A : memref<4x8x3xf32>, %B : memref<8x40xf32>, %C : memref<4x32xf32>, %i : index, %j : index) {
  %aw = tile.window %A by affine_map<(d0, d1)[s0] -> (s0 + d0, d1 floordiv 3, d1 mod 3)> [%i]
    : memref<4x8x3xf32> -> !tile.window<4x24xf32>
  %bw = tile.window %B by affine_map<(d0, d1)[s0] -> (d0 floordiv 3, s0 + d1 + d0 mod 3)> [%j]
    : memref<8x40xf32> -> !tile.window<24x32xf32>
  %cw = tile.window %C[0, 0] : memref<4x32xf32> -> !tile.window<4x32xf32>
  %acc = tile.load %cw : !tile.window<4x32xf32> -> !tile.tile<4x32xf32>
  %r = tile.contract %aw, %bw, %acc : !tile.window<4x24xf32>, !tile.window<24x32xf32> -> !tile.tile<4x32xf32>
  tile.store %r, %cw : !tile.tile<4x32xf32>, !tile.window<4x32xf32>
}

// -----

// A row sum looks at all rows of the product, so rows beyond the extent must be those of zeros.
// CHECK-LABEL: mma.kernel @no_clamp(
// CHECK-NOT:     clamp
tile.kernel @no_clamp(%A : memref<?x8xf32>, %B : memref<8x16xf32>, %C : memref<1x16xf32>, %mr : index) {
  %zero = arith.constant 0 : index
  %aw = tile.window %A[%zero, %zero] extent [%mr, _] : memref<?x8xf32> -> !tile.window<4x8xf32>
  %bw = tile.window %B[%zero, %zero] : memref<8x16xf32> -> !tile.window<8x16xf32>
  %cw = tile.window %C[%zero, %zero] : memref<1x16xf32> -> !tile.window<1x16xf32>
  %number = arith.constant 0.0 : f32
  %acc = tile.splat %number : f32 -> !tile.tile<4x16xf32>
  %r = tile.contract %aw, %bw, %acc : !tile.window<4x8xf32>, !tile.window<8x16xf32> -> !tile.tile<4x16xf32>
  %sum = tile.reduce add %r dims [0] : !tile.tile<4x16xf32> -> !tile.tile<1x16xf32>
  tile.store %sum, %cw : !tile.tile<1x16xf32>, !tile.window<1x16xf32>
}

// -----

// A window of any rank is copied row by row: its whole vectors without a mask where they are stored, then what is left.
// CHECK-LABEL: mma.kernel @stage_rows(
// CHECK:         scf.for %at =
// CHECK:           scf.for %at_1 =
// CHECK-NEXT:        %[[WHOLE:.*]] = mma.load %x[%at, %at_1, %cm1] clip
// CHECK-NEXT:        mma.store %[[WHOLE]], %s[%at, %at_1, %c0] : !mma.fragment<1x1x16xf32
// CHECK-NEXT:        %[[LEFT:.*]] = mma.load %x[%at, %at_1, %c15] clip
// CHECK-NEXT:        mma.store %[[LEFT]], %s[%at, %at_1, %c16] extent [_, _, %c5]
tile.kernel @stage_rows(%x : memref<2x3x20xf32>) {
  %w = tile.window %x by affine_map<(d0, d1, d2) -> (d0, d1, (d2 + -1))> [] clip
    : memref<2x3x20xf32> -> !tile.window<2x3x21xf32>
  %s = tile.stage %w : !tile.window<2x3x21xf32> -> !tile.buffer<2x3x21xf32>
  tile.return
}

// -----

// What a contraction reads in tiles of 32 columns is packed in panels of 32 columns, whole ones without masks and the last
// one padded with zeros, so that the contraction reads it without masks.
// CHECK:         #[[PANELS:.*]] = affine_map<(d0, d1) -> ((d1 floordiv 32), d0, (d1 mod 32))>
// CHECK-LABEL: mma.kernel @stage(
// CHECK:         %b = mma.alloc : !mma.buffer<8x64xf32, #[[PANELS]]>
// CHECK:         scf.for %[[J:at]] = %{{.*}} to %[[WHOLE:.*]] step %{{.*}} {
// CHECK-NEXT:      scf.for %[[K:at_1]] = %{{.*}} to %kc step %{{.*}} {
// CHECK-NEXT:        %[[F:.*]] = mma.load %B[%[[K]], %[[J]]] : memref
// CHECK-NEXT:        mma.store %[[F]], %b[%[[K]], %[[J]]]
// CHECK:         scf.for %[[J:at_2]] = %[[WHOLE]] to %nc step %{{.*}} {
// CHECK-NEXT:      %[[REST:.*]] = arith.subi %nc, %[[J]] : index
// CHECK-NEXT:      scf.for %[[K:at_3]] = %{{.*}} to %kc step %{{.*}} {
// CHECK-NEXT:        %[[F:.*]] = mma.load %B[%[[K]], %[[J]]] extent [_, %[[REST]]]
// CHECK-NEXT:        mma.store %[[F]], %b[%[[K]], %[[J]]]
// CHECK:         scf.for %jr = %{{.*}} to %nc
// CHECK:           mma.load %b[%{{.*}}, %jr] : !mma.buffer
tile.kernel @stage(%A : memref<4x8xf32>, %B : memref<?x?xf32>, %C : memref<4x?xf32>, %kc : index, %nc : index) {
  %zero = arith.constant 0 : index
  %w = tile.window %B[%zero, %zero] extent [%kc, %nc] : memref<?x?xf32> -> !tile.window<8x64xf32>
  %b = tile.stage %w : !tile.window<8x64xf32> -> !tile.buffer<8x64xf32>
  tile.for %jr, %nr = %zero to %nc step 32 {
    %aw = tile.window %A[0, 0] extent [_, %kc] : memref<4x8xf32> -> !tile.window<4x8xf32>
    %bw = tile.window %b[0, %jr] extent [%kc, %nr] : !tile.buffer<8x64xf32> -> !tile.window<8x32xf32>
    %cw = tile.window %C[0, %jr] extent [_, %nr] : memref<4x?xf32> -> !tile.window<4x32xf32>
    %acc = tile.load %cw : !tile.window<4x32xf32> -> !tile.tile<4x32xf32>
    %r = tile.contract %aw, %bw, %acc extent %kc
      : !tile.window<4x8xf32>, !tile.window<8x32xf32> -> !tile.tile<4x32xf32>
    tile.store %r, %cw : !tile.tile<4x32xf32>, !tile.window<4x32xf32>
  }
}

// -----

// The last columns may be read in a narrower tile, from the beginning of their panel: the panels are those of the wide
// one, and neither has masks.
// CHECK:         #[[PANELS:.*]] = affine_map<(d0, d1) -> ((d1 floordiv 48), d0, (d1 mod 48))>
// CHECK-LABEL: mma.kernel @stage_rest(
// CHECK:         %b = mma.alloc : !mma.buffer<8x96xf32, #[[PANELS]]>
// CHECK:         mma.load %b[%{{.*}}, %{{.*}}] : {{.*}} -> !mma.fragment<1x32xf32
// CHECK:         mma.load %b[%{{.*}}, %{{.*}}] : {{.*}} -> !mma.fragment<1x48xf32
tile.kernel @stage_rest(%A : memref<4x8xf32>, %B : memref<?x?xf32>, %C : memref<4x?xf32>, %nc : index) {
  %zero = arith.constant 0 : index
  %thirty_two = arith.constant 32 : index
  %w = tile.window %B[%zero, %zero] extent [_, %nc] : memref<?x?xf32> -> !tile.window<8x96xf32>
  %b = tile.stage %w : !tile.window<8x96xf32> -> !tile.buffer<8x96xf32>
  %aw = tile.window %A[0, 0] : memref<4x8xf32> -> !tile.window<4x8xf32>
  tile.for %jr, %nr = %zero to %nc step 48 {
    %few = arith.cmpi sle, %nr, %thirty_two : index
    scf.if %few {
      %bw = tile.window %b[0, %jr] extent [_, %nr] : !tile.buffer<8x96xf32> -> !tile.window<8x32xf32>
      %cw = tile.window %C[0, %jr] extent [_, %nr] : memref<4x?xf32> -> !tile.window<4x32xf32>
      %acc = tile.load %cw : !tile.window<4x32xf32> -> !tile.tile<4x32xf32>
      %r = tile.contract %aw, %bw, %acc : !tile.window<4x8xf32>, !tile.window<8x32xf32> -> !tile.tile<4x32xf32>
      tile.store %r, %cw : !tile.tile<4x32xf32>, !tile.window<4x32xf32>
    } else {
      %bw = tile.window %b[0, %jr] extent [_, %nr] : !tile.buffer<8x96xf32> -> !tile.window<8x48xf32>
      %cw = tile.window %C[0, %jr] extent [_, %nr] : memref<4x?xf32> -> !tile.window<4x48xf32>
      %acc = tile.load %cw : !tile.window<4x48xf32> -> !tile.tile<4x48xf32>
      %r = tile.contract %aw, %bw, %acc : !tile.window<4x8xf32>, !tile.window<8x48xf32> -> !tile.tile<4x48xf32>
      tile.store %r, %cw : !tile.tile<4x48xf32>, !tile.window<4x48xf32>
    }
  }
}

// -----

// Columns of a panel that lie along rows in memory: blocks of 16x16 are read as they lie and transposed in registers,
// without masks as long as all of a block is valid.
// CHECK:         #[[PANELS:.*]] = affine_map<(d0, d1) -> ((d1 floordiv 32), d0, (d1 mod 32))>
// CHECK-LABEL: mma.kernel @stage_transposed(
// CHECK:         %b = mma.alloc : !mma.buffer<32x64xf32, #[[PANELS]]>
// CHECK:         scf.for %[[J:at]] = %{{.*}} to %{{.*}} step %{{c16.*}} {
// CHECK:           %[[WHOLE:.*]] = arith.select
// CHECK-NEXT:      scf.for %[[K:at_1]] = %{{.*}} to %[[WHOLE]] step %{{c16.*}} {
// CHECK-NEXT:        %[[F:.*]] = mma.load %B[%[[J]], %[[K]]] : memref<?x?xf32>
// CHECK-NEXT:        %[[T:.*]] = mma.transpose %[[F]] : !mma.fragment<16x16xf32
// CHECK-NEXT:        mma.store %[[T]], %b[%[[K]], %[[J]]] :
// CHECK:           scf.for %{{.*}} = %[[WHOLE]] to %kc step %{{c16.*}} {
// CHECK:             mma.load %B[%{{.*}}] extent [%{{.*}}, %{{.*}}]
// CHECK-NEXT:        mma.transpose
tile.kernel @stage_transposed(%A : memref<4x20xf32>, %B : memref<?x?xf32>, %C : memref<4x?xf32>, %kc : index,
                              %nc : index) {
  %zero = arith.constant 0 : index
  %w = tile.window %B by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%zero, %zero] extent [%kc, %nc]
    : memref<?x?xf32> -> !tile.window<20x64xf32>
  %b = tile.stage %w : !tile.window<20x64xf32> -> !tile.buffer<20x64xf32>
  tile.for %jr, %nr = %zero to %nc step 32 {
    %aw = tile.window %A[0, 0] extent [_, %kc] : memref<4x20xf32> -> !tile.window<4x20xf32>
    %bw = tile.window %b[0, %jr] extent [%kc, %nr] : !tile.buffer<20x64xf32> -> !tile.window<20x32xf32>
    %cw = tile.window %C[0, %jr] extent [_, %nr] : memref<4x?xf32> -> !tile.window<4x32xf32>
    %acc = tile.load %cw : !tile.window<4x32xf32> -> !tile.tile<4x32xf32>
    %r = tile.contract %aw, %bw, %acc extent %kc
      : !tile.window<4x20xf32>, !tile.window<20x32xf32> -> !tile.tile<4x32xf32>
    tile.store %r, %cw : !tile.tile<4x32xf32>, !tile.window<4x32xf32>
  }
}

// -----

// A tile whose rows are contiguous in memory, not its columns, is read along them; so it is stored.
// CHECK-LABEL: mma.kernel @turn(
// CHECK:         %[[F:.*]] = mma.load %A[%i, %j] extent [%n, %m] : memref<?x?xf32>
// CHECK-NEXT:    %t = mma.transpose %[[F]] : !mma.fragment<32x16xf32, {{.*}}> -> !mma.fragment<16x32xf32
// CHECK-NEXT:    %[[U:.*]] = mma.transpose %t : !mma.fragment<16x32xf32, {{.*}}> -> !mma.fragment<32x16xf32
// CHECK-NEXT:    mma.store %[[U]], %B[%i, %j] : !mma.fragment<32x16xf32
tile.kernel @turn(%A : memref<?x?xf32>, %B : memref<?x?xf32>, %i : index, %j : index, %m : index, %n : index) {
  %aw = tile.window %A by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%i, %j] extent [%m, %n]
    : memref<?x?xf32> -> !tile.window<16x32xf32>
  %t = tile.load %aw : !tile.window<16x32xf32> -> !tile.tile<16x32xf32>
  %bw = tile.window %B by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%i, %j]
    : memref<?x?xf32> -> !tile.window<16x32xf32>
  tile.store %t, %bw : !tile.tile<16x32xf32>, !tile.window<16x32xf32>
}

// -----

// Blocks of equal size: 100 in steps of 32 are four of 32, but balanced(4) makes them four of 28.
// CHECK-LABEL: mma.kernel @balanced(
// CHECK:         %[[STEP:.*]] = arith.constant 28 : index
// CHECK:         scf.for %i = %{{.*}} to %{{.*}} step %[[STEP]] {
// CHECK-NEXT:      %[[REST:.*]] = arith.subi %{{.*}}, %i : index
// CHECK-NEXT:      %n = arith.minsi %[[STEP]], %[[REST]] : index
tile.kernel @balanced(%x : memref<100xf32>) {
  %zero = arith.constant 0 : index
  %end = tile.dim %x, 0 : memref<100xf32>
  tile.for %i, %n = %zero to %end step 32 balanced(4) {
    %w = tile.window %x[%i] extent [%n] : memref<100xf32> -> !tile.window<32xf32>
    %t = tile.load %w : !tile.window<32xf32> -> !tile.tile<32xf32>
    tile.store %t, %w : !tile.tile<32xf32>, !tile.window<32xf32>
  }
}

// -----

// A tile that exceeds the registers lives in scratch. A product goes through it in register tiles, 8x48, rows beyond the
// extent only in the last of them; what a map makes of it replaces it.
// CHECK-LABEL: mma.kernel @product_in_scratch(
// CHECK:         %r = mma.alloc : !mma.buffer<64x48xf32>
// CHECK:         scf.for %[[I:.*]] = %{{.*}} to %{{.*}} step %c8 {
// CHECK:           %[[S:.*]] = scf.for %k = {{.*}} -> (!mma.fragment<8x48xf32
// CHECK-NEXT:        mma.load %A[%[[I]], %k] : memref<?x32xf32> -> !mma.fragment<8x1xf32
// CHECK:           mma.store %[[S]], %r[%[[I]], %c0]
// CHECK:         scf.for %[[REST:.*]] = %{{.*}} to %m step %c8 {
// CHECK:           mma.load %A[%[[REST]], %{{.*}}] extent [%{{.*}}, _] clamp [0]
// CHECK:         scf.for %[[ROW:.*]] = %c0 to %{{.*}} step %c2 {
// CHECK-NEXT:      %[[X:.*]] = mma.load %r[%[[ROW]], %c0] : !mma.buffer<64x48xf32> -> !mma.fragment<2x48xf32
// CHECK-NEXT:      %[[Y:.*]] = mma.map (%[[X]]
// CHECK:           mma.store %[[Y]], %C[%[[ROW]], %c0] :
// CHECK:         scf.for %[[ROW]]_1 = %{{.*}} to %m step %c1 {
// CHECK-NEXT:      mma.load %r[%{{.*}}, %c0] : !mma.buffer<64x48xf32> -> !mma.fragment<1x48xf32
tile.kernel @product_in_scratch(%A : memref<?x32xf32>, %B : memref<32x48xf32>, %C : memref<?x48xf32>, %m : index) {
  %f0 = arith.constant 0.0 : f32
  %aw = tile.window %A[0, 0] extent [%m, _] : memref<?x32xf32> -> !tile.window<64x32xf32>
  %bw = tile.window %B[0, 0] : memref<32x48xf32> -> !tile.window<32x48xf32>
  %cw = tile.window %C[0, 0] extent [%m, _] : memref<?x48xf32> -> !tile.window<64x48xf32>
  %none = tile.splat %f0 : f32 -> !tile.tile<64x48xf32>
  %r = tile.contract %aw, %bw, %none : !tile.window<64x32xf32>, !tile.window<32x48xf32> -> !tile.tile<64x48xf32>
  %s = tile.map (%r : !tile.tile<64x48xf32>) -> !tile.tile<64x48xf32> {
  ^bb0(%x : f32):
    %y = arith.addf %x, %x : f32
    tile.yield %y : f32
  }
  tile.store %s, %cw : !tile.tile<64x48xf32>, !tile.window<64x48xf32>
}

// -----

// Maps and reductions of one tile share a loop; what is carried by a loop and updated row by row stays in one buffer,
// and a map of a product's accumulator is part of the product.
// CHECK-LABEL: mma.kernel @online(
// CHECK:         %acc1 = mma.alloc : !mma.buffer<64x48xf32>
// CHECK:         %p = mma.alloc : !mma.buffer<64x48xf32>
// CHECK-NOT:     mma.alloc
// CHECK:         scf.for %j = {{.*}} iter_args(%{{.*}} = %{{.*}}) -> (!mma.fragment<1x48xf32
// CHECK:           scf.for {{.*}} iter_args(%[[L:.*]] = %{{.*}}) -> (!mma.fragment<1x48xf32
// CHECK-NEXT:        %[[P:.*]] = mma.load %p[
// CHECK-NEXT:        %[[E:.*]] = mma.map (%[[P]]
// CHECK:             %[[N:.*]] = mma.reduce add %[[E]] into %[[L]] dims [0]
// CHECK-NEXT:        mma.store %[[E]], %p[
// CHECK-NEXT:        scf.yield %[[N]]
// CHECK:           mma.load %acc1[
// CHECK-NEXT:      mma.map (
// CHECK:           scf.for %[[K:[a-z0-9_]+]] = {{.*}} -> (!mma.fragment<8x48xf32
// CHECK-NEXT:        mma.load %V[%{{.*}}, %[[K]]]
// CHECK-NEXT:        mma.load %p[%[[K]], %c0]
// CHECK:           mma.store %{{.*}}, %acc1[
tile.kernel @online(%V : memref<64x64xf32>, %P : memref<64x48xf32>, %O : memref<64x48xf32>, %n : index) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %none = tile.splat %f0 : f32 -> !tile.tile<64x48xf32>
  %l0 = tile.splat %f0 : f32 -> !tile.tile<1x48xf32>
  %vw = tile.window %V[0, 0] : memref<64x64xf32> -> !tile.window<64x64xf32>
  %pw = tile.window %P[0, 0] : memref<64x48xf32> -> !tile.window<64x48xf32>
  %ow = tile.window %O[0, 0] : memref<64x48xf32> -> !tile.window<64x48xf32>
  %l, %acc = tile.for %j, %jc = %zero to %n step 64 iter_args(%l1 = %l0, %acc1 = %none)
      -> (!tile.tile<1x48xf32>, !tile.tile<64x48xf32>) {
    %p = tile.contract %vw, %pw, %none : !tile.window<64x64xf32>, !tile.window<64x48xf32> -> !tile.tile<64x48xf32>
    %e = tile.map (%p, %l1 : !tile.tile<64x48xf32>, !tile.tile<1x48xf32>) -> !tile.tile<64x48xf32> {
    ^bb0(%x : f32, %a : f32):
      %y = arith.mulf %x, %a : f32
      tile.yield %y : f32
    }
    %l2 = tile.reduce add %e into %l1 dims [0] : !tile.tile<64x48xf32> -> !tile.tile<1x48xf32>
    %acc2 = tile.map (%acc1, %l2 : !tile.tile<64x48xf32>, !tile.tile<1x48xf32>) -> !tile.tile<64x48xf32> {
    ^bb0(%x : f32, %a : f32):
      %y = arith.mulf %x, %a : f32
      tile.yield %y : f32
    }
    %acc3 = tile.contract %vw, %e, %acc2 : !tile.window<64x64xf32>, !tile.tile<64x48xf32> -> !tile.tile<64x48xf32>
    tile.yield %l2, %acc3 : !tile.tile<1x48xf32>, !tile.tile<64x48xf32>
  }
  tile.store %acc, %ow : !tile.tile<64x48xf32>, !tile.window<64x48xf32>
}

// -----

// Several panels are filled a strip of eight rows at a time: a row of memory goes to all panels before the next strip.
// CHECK-LABEL: mma.kernel @stage_strips(
// CHECK:         scf.for %[[STRIP:at]] = %{{.*}} to %kc step %c8 {
// CHECK-NEXT:      %[[NEXT:.*]] = arith.addi %[[STRIP]], %c8 : index
// CHECK-NEXT:      %[[END:.*]] = {{.*}}%kc
// CHECK:           scf.for %[[J:at_1]] = %{{.*}} to %{{.*}} step %c32 {
// CHECK-NEXT:        scf.for %[[K:at_2]] = %[[STRIP]] to %{{.*}} step %c1 {
// CHECK-NEXT:          mma.load %B[%[[K]], %[[J]]]
tile.kernel @stage_strips(%A : memref<4x64xf32>, %B : memref<?x?xf32>, %C : memref<4x?xf32>, %kc : index, %nc : index) {
  %zero = arith.constant 0 : index
  %w = tile.window %B[%zero, %zero] extent [%kc, %nc] : memref<?x?xf32> -> !tile.window<64x64xf32>
  %b = tile.stage %w : !tile.window<64x64xf32> -> !tile.buffer<64x64xf32>
  tile.for %jr, %nr = %zero to %nc step 32 {
    %aw = tile.window %A[0, 0] extent [_, %kc] : memref<4x64xf32> -> !tile.window<4x64xf32>
    %bw = tile.window %b[0, %jr] extent [%kc, %nr] : !tile.buffer<64x64xf32> -> !tile.window<64x32xf32>
    %cw = tile.window %C[0, %jr] extent [_, %nr] : memref<4x?xf32> -> !tile.window<4x32xf32>
    %acc = tile.load %cw : !tile.window<4x32xf32> -> !tile.tile<4x32xf32>
    %r = tile.contract %aw, %bw, %acc extent %kc
      : !tile.window<4x64xf32>, !tile.window<64x32xf32> -> !tile.tile<4x32xf32>
    tile.store %r, %cw : !tile.tile<4x32xf32>, !tile.window<4x32xf32>
  }
}

// -----

// Factors of f16 for a multiply-add of f32: the right one is widened while it is packed, the left one in registers.
// CHECK-LABEL: mma.kernel @stage_widens(
// CHECK:         %b = mma.alloc : !mma.buffer<8x32xf32>
// CHECK:         %[[N:.*]] = mma.load %B[{{.*}}] : memref<8x32xf16> -> !mma.fragment<1x32xf16
// CHECK:         %[[W:.*]] = mma.map (%[[N]] : {{.*}}) -> !mma.fragment<1x32xf32{{.*}} {
// CHECK:           arith.extf
// CHECK:         mma.store %[[W]], %b[
// CHECK:         mma.load %A[{{.*}}] : memref<4x8xf16> -> !mma.fragment<4x1xf16
// CHECK:         mma.load %b[{{.*}}] : !mma.buffer<8x32xf32> -> !mma.fragment<1x32xf32
// CHECK:           arith.extf
// CHECK:         mma.mma {{.*}} {intrinsic = "x86.avx512.fma.1x16x1.f32"}
tile.kernel @stage_widens(%A : memref<4x8xf16>, %B : memref<8x32xf16>, %C : memref<4x32xf32>) {
  %w = tile.window %B[0, 0] : memref<8x32xf16> -> !tile.window<8x32xf16>
  %b = tile.stage %w : !tile.window<8x32xf16> -> !tile.buffer<8x32xf32>
  %aw = tile.window %A[0, 0] : memref<4x8xf16> -> !tile.window<4x8xf16>
  %cw = tile.window %C[0, 0] : memref<4x32xf32> -> !tile.window<4x32xf32>
  %acc = tile.load %cw : !tile.window<4x32xf32> -> !tile.tile<4x32xf32>
  %r = tile.contract %aw, %b, %acc : !tile.window<4x8xf16>, !tile.buffer<8x32xf32> -> !tile.tile<4x32xf32>
  tile.store %r, %cw : !tile.tile<4x32xf32>, !tile.window<4x32xf32>
}

// -----

// What is read next is fetched meanwhile: of 32x64 numbers, in 2 register tiles of 64 steps, a line with every step.

// CHECK-LABEL: mma.kernel @ahead(
// CHECK:         scf.for %[[PART:.*]] = %{{.*}} to %{{.*}} step
// CHECK:           scf.for %[[K:.*]] = %{{.*}} to %{{.*}} step
// CHECK:             mma.mma
// CHECK:             memref.prefetch %W[%n, %{{.*}}], read, locality<3>, data : memref<?x64xf32>
tile.kernel @ahead(%A : memref<16x64xf32>, %B : memref<64x48xf32>, %W : memref<?x64xf32>, %C : memref<16x48xf32>,
    %n : index) {
  %zero = arith.constant 0 : index
  %none = arith.constant 0.0 : f32
  %aw = tile.window %A[%zero, %zero] : memref<16x64xf32> -> !tile.window<16x64xf32>
  %bw = tile.window %B[%zero, %zero] : memref<64x48xf32> -> !tile.window<64x48xf32>
  %ww = tile.window %W[%n, %zero] : memref<?x64xf32> -> !tile.window<32x64xf32>
  %acc = tile.splat %none : f32 -> !tile.tile<16x48xf32>
  %r = tile.contract %aw, %bw, %acc ahead %ww
      : !tile.window<16x64xf32>, !tile.window<64x48xf32>, !tile.window<32x64xf32> -> !tile.tile<16x48xf32>
  %cw = tile.window %C[%zero, %zero] : memref<16x48xf32> -> !tile.window<16x48xf32>
  tile.store %r, %cw : !tile.tile<16x48xf32>, !tile.window<16x48xf32>
}

// -----

// A single register tile fetches what stands in the row of its window for a step of k.

// CHECK-LABEL: mma.kernel @ahead_by_rows(
// CHECK:         scf.for %[[K:.*]] = %{{.*}} to %{{.*}} step
// CHECK:           mma.mma
// CHECK:           memref.prefetch %W[%{{.*}}, %n], read, locality<3>, data : memref<?x?xf32>
// CHECK:           memref.prefetch %W[%{{.*}}, %n], read, locality<3>, data : memref<?x?xf32>
// CHECK-NOT:       memref.prefetch
tile.kernel @ahead_by_rows(%A : memref<4x64xf32>, %B : memref<64x64xf32>, %W : memref<?x?xf32>, %C : memref<4x64xf32>,
    %n : index) {
  %zero = arith.constant 0 : index
  %none = arith.constant 0.0 : f32
  %aw = tile.window %A[%zero, %zero] : memref<4x64xf32> -> !tile.window<4x64xf32>
  %bw = tile.window %B[%zero, %zero] : memref<64x64xf32> -> !tile.window<64x64xf32>
  %ww = tile.window %W by affine_map<(d0, d1)[s0, s1] -> (s0 + d0 + 64 * d1, s1)> [%zero, %n]
      : memref<?x?xf32> -> !tile.window<64x2xf32>
  %acc = tile.splat %none : f32 -> !tile.tile<4x64xf32>
  %r = tile.contract %aw, %bw, %acc ahead %ww
      : !tile.window<4x64xf32>, !tile.window<64x64xf32>, !tile.window<64x2xf32> -> !tile.tile<4x64xf32>
  %cw = tile.window %C[%zero, %zero] : memref<4x64xf32> -> !tile.window<4x64xf32>
  tile.store %r, %cw : !tile.tile<4x64xf32>, !tile.window<4x64xf32>
}
