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
// CHECK:             %[[KEYS:.*]] = tile.window %[[K]][%b0, %b1, %n, 0] extent [%n_extent, _]
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

// -----

// Of many queries: while queries meet keys the values are fetched, and while weights meet values the next block of keys.

// CHECK-LABEL: tile.kernel @attention(
// CHECK-SAME:    memref<2x2048x32xf32>, %[[K:[a-z0-9]+]] : memref<2x?x32xf32>, %[[V:[a-z0-9]+]] : memref<2x?x32xf32>
// CHECK:         tile.for %n, {{.*}} step 64 iter_args
// CHECK:           %[[VALUES:.*]] = tile.window %[[V]][%b, %n, 0] : memref<2x?x32xf32> -> !tile.window<64x32xf32>
// CHECK:           tile.contract {{.*}} unroll 2 ahead %[[VALUES]] :
// CHECK:           %[[KEYS:.*]] = tile.window %[[K]][%b, %n + 64, 0]
// CHECK:           tile.contract {{.*}} ahead %[[KEYS]] :
func.func @main(%q: tensor<2x2048x32xf32>, %k: tensor<2x?x32xf32>, %v: tensor<2x?x32xf32>) -> tensor<2x2048x32xf32> {
  %s = nn.contract [h, m, n, d] %q (h, m, d), %k (h, n, d) -> (h, m, n) accumulate f32
      : tensor<2x2048x32xf32>, tensor<2x?x32xf32> -> tensor<2x2048x?xf32>
  %w = nn.softmax %s dim 2 : tensor<2x2048x?xf32>
  %y = nn.contract [h, m, e, n] %w (h, m, n), %v (h, n, e) -> (h, m, e) accumulate f32
      : tensor<2x2048x?xf32>, tensor<2x?x32xf32> -> tensor<2x2048x32xf32>
  func.return %y : tensor<2x2048x32xf32>
}

// -----

// Heads of a size that is known at run time: one block where the guard says that it fits, without a step for what it
// lacks; else scores are summed in blocks of a head, and each block of the values' dimension has scores of its own.

// CHECK-LABEL: tile.kernel @attention(
// CHECK:         %[[D:.*]] = tile.dim %{{.*}}, 1 : memref<20x?xf32>
// CHECK:         tile.parallel (%e, %m), {{.*}} step (512, 32) {
// CHECK:           tile.stage %{{.*}} : !tile.window<512x32xf32>
// CHECK:           tile.for %n
// CHECK-NOT:         tile.for
// CHECK:             tile.contract {{.*}} extent %[[D]]
// CHECK-LABEL: tile.kernel @attention_1(
// CHECK:         tile.parallel (%e, %m), {{.*}} step (512, 32) {
// CHECK-NOT:       tile.stage
// CHECK:           tile.for %n
// CHECK:             tile.for %k{{.*}}, %k_extent = %c0 to %{{.*}} step 512 iter_args
// CHECK:               %[[PART:.*]] = tile.stage
// CHECK:               tile.contract %{{.*}}, %[[PART]], %{{.*}} extent %k_extent
// CHECK:             tile.reduce maxnum
func.func @heads(%q: tensor<20x?xf32>, %k: tensor<?x?xf32>, %v: tensor<?x?xf32>) -> tensor<20x?xf32> {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<20x?xf32>, tensor<?x?xf32> -> tensor<20x?xf32>
  %w = nn.softmax %s dim 1 : tensor<20x?xf32>
  %y = nn.matmul %w, %v accumulate f32 : tensor<20x?xf32>, tensor<?x?xf32> -> tensor<20x?xf32>
  func.return %y : tensor<20x?xf32>
}

// -----

// One query of two heads that share keys: the heads are rows, keys are packed and lie across lanes, and values are read
// in place. The weights of a row are added up in order of the keys, by a product with ones. One query sees all keys.

// CHECK-LABEL: tile.kernel @attention(
// CHECK-SAME:    %{{.*}} : memref<2x1x2x1x64xf32>, %[[K:[a-z0-9]+]] : memref<2x1x?x64xf32>, %{{.*}} : memref<index>, %[[V:[a-z0-9]+]] : memref<2x1x?x64xf32>
// CHECK:         tile.parallel (%b0, %m0), {{.*}} step (1, 2) {
// CHECK:           %[[BUFFER:.*]] = tile.stage %{{.*}} : !tile.tile<1x16xf32>
// CHECK:           tile.for %n, %n_extent = %c0 to %{{.*}} step 64 iter_args({{.*}}) -> (!tile.tile<2x1xf32>, !tile.tile<2x16xf32>, !tile.tile<2x64xf32>)
// CHECK:             %[[WINDOW:.*]] = tile.window %[[K]] by affine_map<(d0, d1)[s0, s1] -> (s0, 0, (s1 + d1), d0)> [%b0, %n] extent [_, %n_extent]
// CHECK:             %[[KEYS:.*]] = tile.stage %[[WINDOW]]
// CHECK:             tile.contract %{{.*}}, %[[KEYS]], {{.*}} -> !tile.tile<2x64xf32>
// CHECK:             tile.reduce maxnum {{.*}} dims [1]
// CHECK:             %[[ONES:.*]] = tile.window %[[BUFFER]] by affine_map<(d0, d1) -> (0, d1)>
// CHECK:             tile.contract %[[WEIGHTS:.*]], %[[ONES]], %{{.*}} extent %n_extent : !tile.tile<2x64xf32>, !tile.window<64x16xf32> -> !tile.tile<2x16xf32>
// CHECK:             %[[VALUES:.*]] = tile.window %[[V]][%b0, 0, %n, 0] extent [%n_extent, _]
// CHECK:             tile.contract %[[WEIGHTS]], %[[VALUES]], %{{.*}} extent %n_extent
// CHECK:           tile.reduce maxnum %{{.*}} dims [1] : !tile.tile<2x16xf32> -> !tile.tile<2x1xf32>
func.func @one_query(%q: tensor<2x2x1x64xf32>, %k: tensor<2x1x?x64xf32>, %v: tensor<2x1x?x64xf32>) -> tensor<2x2x1x64xf32> {
  %y = nn.attention %q, %k, %v causal accumulate f32
      : tensor<2x2x1x64xf32>, tensor<2x1x?x64xf32>, tensor<2x1x?x64xf32>
  func.return %y : tensor<2x2x1x64xf32>
}
