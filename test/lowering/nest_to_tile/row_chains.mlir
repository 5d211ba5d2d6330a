// RUN: crosstile-opt %s --split-input-file --decompose --canonicalize --nn-to-nest --fuse --fuse-row-chains --choose-schedule=target=x86-64-avx512 --nest-to-tile | filecheck %s

// A sweep over the keys for each fold, and one for the product. The scores wait in scratch, then their exponentials in
// their place; a sum in order is a product with ones. Keys that causal hides from the whole block are not visited, but
// zero times their values is added.

// CHECK-LABEL: tile.kernel @attention(
// CHECK-SAME:    %{{.*}} : memref<1x2x100x24xf32>, %[[K:[a-z0-9]+]] : memref<1x2x70x24xf32>, %[[V:[a-z0-9]+]] : memref<1x2x70x24xf32>
// CHECK:         tile.parallel
// CHECK:           %[[Q:.*]] = tile.stage %{{.*}} : !tile.window<24x48xf32>
// CHECK:           %[[ONES:.*]] = tile.stage %{{.*}} : !tile.tile<1x64xf32>
// CHECK:           %[[ROWS:.*]] = tile.alloc : !tile.buffer<128x48xf32>
// CHECK:           %[[MAX:.*]] = tile.for %n, %n_extent = %c0 to %[[END:[a-z0-9]+]] step 64
// CHECK:             tile.contract %{{.*}}, %[[Q]],
// CHECK:             scf.if
// CHECK:             tile.window %[[ROWS]][
// CHECK:             tile.store
// CHECK:             tile.reduce max
// CHECK:           tile.for {{.*}} to %[[END]] step 64
// CHECK:             %[[W1:.*]] = tile.window %[[ROWS]][
// CHECK-NEXT:        tile.load %[[W1]]
// CHECK:             math.exp
// CHECK:             tile.store
// CHECK:             tile.contract %[[ONES]],
// CHECK:           tile.for {{.*}} to %[[END]] step 64
// CHECK:             tile.load
// CHECK:             arith.divf
// CHECK:             tile.contract
// CHECK:           tile.for {{.*}} = %[[END]] to %{{.*}} step 1 iter_args
// CHECK:             tile.window %[[V]]
// CHECK:             arith.mulf
// CHECK:             arith.addf
// CHECK:           tile.store
func.func @main(%q: tensor<1x2x100x24xf32>, %k: tensor<1x2x70x24xf32>, %v: tensor<1x2x70x24xf32>) -> tensor<1x2x100x24xf32> {
  %y = nn.attention %q, %k, %v causal accumulate f32 fastmath<none>
      : tensor<1x2x100x24xf32>, tensor<1x2x70x24xf32>, tensor<1x2x70x24xf32>
  func.return %y : tensor<1x2x100x24xf32>
}

// -----

// Rows of 100000 do not fit: nothing waits, and each sweep computes the scores.

// CHECK-LABEL: tile.kernel @matmul_softmax_matmul(
// CHECK-NOT:     tile.alloc
// CHECK:         tile.reduce max
// CHECK:         tile.contract
// CHECK:         math.exp
// CHECK:         tile.contract
// CHECK:         tile.contract
// CHECK:         arith.divf
func.func @main(%q: tensor<100x24xf32>, %k: tensor<100000x24xf32>) -> tensor<100x24xf32> {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<100x24xf32>, tensor<100000x24xf32> -> tensor<100x100000xf32>
  %w = nn.softmax %s dim 1 fastmath<none> : tensor<100x100000xf32>
  %y = nn.matmul %w, %k accumulate f32 : tensor<100x100000xf32>, tensor<100000x24xf32> -> tensor<100x24xf32>
  func.return %y : tensor<100x24xf32>
}
