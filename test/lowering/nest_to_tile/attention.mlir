// RUN: crosstile-opt %s --split-input-file --decompose --canonicalize --nn-to-nest --fuse --fuse-attention --choose-schedule=target=x86-64-avx512 --nest-to-tile | filecheck %s

// Queries across lanes: they are packed once per block, keys and values are read in place. Keys behind the last query's
// are not visited, and only a block that the first query does not see whole is masked.

// CHECK-LABEL: tile.kernel @attention(
// CHECK-SAME:    %{{.*}} : memref<?x2x4x100x64xf32>, %[[K:[a-z0-9]+]] : memref<?x2x?x64xf32>
// CHECK:         tile.parallel (%b0, %b1, %m0, %m1), {{.*}} step (1, 1, 1, 48) {
// CHECK:           %[[SHIFT:.*]] = memref.load %{{.*}}[] : memref<index>
// CHECK:           %[[QT:.*]] = tile.stage %{{.*}} : !tile.window<64x48xf32>
// CHECK:           %[[END:.*]] = arith.minsi
// CHECK:           tile.for %n, %n_extent = %c0 to %[[END]] step 64 iter_args
// CHECK-NEXT:        %[[KEYS:.*]] = tile.window %[[K]][%b0, %b1, %n, 0] extent [%n_extent, _]
// CHECK:             %[[PRODUCT:.*]] = tile.contract %[[KEYS]], %[[QT]], %{{.*}} intrinsic "x86.avx512.fma.1x16x1.f32"
// CHECK:             %[[HIDDEN:.*]] = arith.cmpi sgt
// CHECK-NEXT:        %[[SCORES:.*]] = scf.if %[[HIDDEN]] -> (!tile.tile<64x48xf32>) {
// CHECK:               arith.select
// CHECK:             } else {
// CHECK-NEXT:          scf.yield %[[PRODUCT]]
// CHECK:             tile.reduce maxnum %[[SCORES]] into %{{.*}} dims [0] extent [%n_extent]
// CHECK:             tile.reduce add
// CHECK:             tile.contract %{{.*}} extent %n_extent
// CHECK:           arith.divf
// CHECK:           tile.store
func.func @main(%q: tensor<?x8x100x64xf32>, %k: tensor<?x2x?x64xf32>, %v: tensor<?x2x?x64xf32>) -> tensor<?x8x100x64xf32> {
  %y = nn.attention %q, %k, %v causal accumulate f32
      : tensor<?x8x100x64xf32>, tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>
  func.return %y : tensor<?x8x100x64xf32>
}
