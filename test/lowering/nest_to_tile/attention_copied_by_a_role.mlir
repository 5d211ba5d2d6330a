// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-attention=target=nvidia-sm_90a --choose-schedule=target=nvidia-sm_90a --nest-to-tile | filecheck %s
// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-attention=target=nvidia-sm_90a --choose-schedule=target=nvidia-sm_90a --nest-to-tile --tile-to-mma=target=nvidia-sm_90a --mma-to-nvvm | filecheck %s --check-prefix COPIES

// Where a role copies, blocks of keys and values end where the keys do, not behind the last one that a query sees: boxes
// of memory are cut off at one place for all blocks. The loop ends where nobody sees any more, and the mask hides the rest.

// CHECK-LABEL: tile.kernel @attention(
// CHECK:         %[[KEYS:.*]] = tile.dim %k, 2 : memref<2x1x?x64xbf16>
// CHECK:         tile.parallel
// CHECK:           %[[SEEN:.*]] = arith.minsi %[[KEYS]], %{{.*}} : index
// CHECK:           tile.for %n, %n_extent = %c0 to %[[SEEN]] step 128 iter_args{{.*}} pipeline(2) role
// CHECK:             %[[REST:.*]] = arith.subi %[[KEYS]], %n : index
// CHECK:             %[[EXTENT:.*]] = arith.minsi %c128, %[[REST]] : index
// CHECK:             tile.window %k by {{.*}} [%b0, %n] extent [_, %[[EXTENT]]]
// CHECK:             tile.mask %{{.*}} extent [_, %[[EXTENT]]] else -inf
// CHECK:             tile.window %v[%b0, 0, %n, 0] extent [%[[EXTENT]], _]

// COPIES-LABEL: llvm.func @attention(
// COPIES-NOT:     nvvm.cp.async.shared.global
// COPIES:         nvvm.cp.async.bulk.tensor
// COPIES:         nvvm.cp.async.bulk.tensor
// COPIES:         nvvm.cp.async.bulk.tensor
// COPIES-NOT:     nvvm.cp.async.shared.global
// COPIES:         llvm.return
func.func @main(%q: tensor<2x1x?x64xbf16>, %k: tensor<2x1x?x64xbf16>, %v: tensor<2x1x?x64xbf16>) -> tensor<2x1x?x64xbf16> {
  %y = nn.attention %q, %k, %v causal accumulate f32
      : tensor<2x1x?x64xbf16>, tensor<2x1x?x64xbf16>, tensor<2x1x?x64xbf16>
  func.return %y : tensor<2x1x?x64xbf16>
}
