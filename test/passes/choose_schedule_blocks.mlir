// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-attention --choose-schedule=target=nvidia-sm_80 | filecheck %s
// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-attention --choose-schedule=target=nvidia-sm_90a | filecheck %s --check-prefix SM90

// Rows of a size that is not known: a warp to each short one, a block to each longer one, all of them held in registers;
// beyond that they are swept. Each comes with a variant for aligned rows first.

// CHECK-LABEL: nest.kernel @softmax
// CHECK-SAME:  j <= 256 and j mod 4 == 0 : #nest.schedule<loops = [i : 8, j : 256], grid = [i], lane = j, hold = 256, aligned = 16>
// CHECK-SAME:  j <= 256 : #nest.schedule<loops = [i : 8, j : 256], grid = [i], lane = j, hold = 256>
// CHECK-SAME:  j <= 4096 : #nest.schedule<loops = [i : 1, j : 4096], grid = [i], lane = j, hold = 4096>
// CHECK-SAME:  j mod 4 == 0 : #nest.schedule<loops = [i : 1, j : 4096], grid = [i], lane = j, aligned = 16>
func.func @rows(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nn.softmax %x dim 1 : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}

// Rows of a known size have one variant, of whole accesses of all lanes.

// CHECK-LABEL: nest.kernel @softmax_1
// CHECK-SAME:  schedules [#nest.schedule<loops = [i : 1, j : 8, k : 640], grid = [i, j], lane = k, hold = 640, aligned = 16>]
func.func @known(%x: tensor<2x?x600xf32>) -> tensor<2x?x600xf32> {
  %y = nn.softmax %x dim 2 : tensor<2x?x600xf32>
  func.return %y : tensor<2x?x600xf32>
}

// What folds nothing: tiles of 2048 elements.

// CHECK-LABEL: nest.kernel @exp
// CHECK-SAME:  j <= 128 : #nest.schedule<loops = [i : 16, j : 128], grid = [j, i], lane = j>
// CHECK-SAME:  #nest.schedule<loops = [i : 1, j : 2048], grid = [j, i], lane = j>]
func.func @tiles(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nn.exp %x : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}

// Across: squares.

// CHECK-LABEL: nest.kernel @transpose
// CHECK-SAME:  #nest.schedule<loops = [i : 32, j : 32], grid = [i, j], lane = j>]
func.func @across(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nn.transpose %x [1, 0] : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}

// Columns: a lane to each, some rows at a time.

// CHECK-LABEL: nest.kernel @sum
// CHECK-SAME:  #nest.schedule<loops = [i : 64, j : 32], grid = [j], lane = j>]
func.func @columns(%x: tensor<?x?xf32>) -> tensor<?xf32> {
  %y = nn.reduce add %x dims [0] : tensor<?x?xf32> -> tensor<?xf32>
  func.return %y : tensor<?xf32>
}

// Attention: where a role of its own copies keys and values, blocks are those of two groups of warps, and each of the two
// products has the instruction that fits it. There must be a key to copy. Else each warp has 16 rows, or 32 of small heads.

// CHECK-LABEL: nest.kernel @attention
// CHECK-SAME:  schedules [m <= 64 : #nest.schedule<loops = [b0 : 1, b1 : 1, m : 64, n : 64, k : 64, e : 64], grid = [b0, b1, m], lane = n, stage = [0, 1, 2], intrinsic = "nvidia.mma.m16n8k16.f32.bf16", pipeline = 2, aligned = 16>,
// CHECK-SAME:  #nest.schedule<loops = [b0 : 1, b1 : 1, m : 128, n : 64, k : 64, e : 64], grid = [b0, b1, m], lane = n, stage = [0, 1, 2], intrinsic = "nvidia.mma.m16n8k16.f32.bf16", pipeline = 2, aligned = 16>]
// SM90-LABEL:  nest.kernel @attention
// SM90-SAME:   schedules [n >= 1 : #nest.schedule<loops = [b0 : 1, b1 : 1, m : 128, n : 128, k : 64, e : 64], grid = [b0, b1, m], lane = n, stage = [0, 1, 2], pipeline = 2 role, aligned = 16>,
// SM90-SAME:   #nest.schedule<loops = [b0 : 1, b1 : 1, m : 64, n : 64, k : 64, e : 64], grid = [b0, b1, m], lane = n, stage = [0, 1, 2], intrinsic = "nvidia.mma_sm90.m16n8k16.f32.bf16", pipeline = 2, aligned = 16>]
func.func @queries(%q: tensor<2x8x?x64xbf16>, %k: tensor<2x8x?x64xbf16>, %v: tensor<2x8x?x64xbf16>)
    -> tensor<2x8x?x64xbf16> {
  %y = nn.attention %q, %k, %v accumulate f32
      : tensor<2x8x?x64xbf16>, tensor<2x8x?x64xbf16>, tensor<2x8x?x64xbf16>
  func.return %y : tensor<2x8x?x64xbf16>
}

// Later queries see more keys: the last blocks begin first, of eight heads at a time.

// CHECK-LABEL: nest.kernel @attention
// CHECK-SAME:  schedules [m <= 64 : #nest.schedule<{{[^>]*}}grid = [b0, b1, m] raster 8 descending, {{[^>]*}}>,
// CHECK-SAME:  #nest.schedule<{{[^>]*}}grid = [b0, b1, m] raster 8 descending, {{[^>]*}}>]
// SM90-LABEL:  nest.kernel @attention
// SM90-SAME:   schedules [n >= 1 : #nest.schedule<{{[^>]*}}grid = [b0, b1, m] raster 8 descending, {{[^>]*}}>,
func.func @causal(%q: tensor<2x8x?x64xbf16>, %k: tensor<2x8x?x64xbf16>, %v: tensor<2x8x?x64xbf16>)
    -> tensor<2x8x?x64xbf16> {
  %y = nn.attention %q, %k, %v causal accumulate f32
      : tensor<2x8x?x64xbf16>, tensor<2x8x?x64xbf16>, tensor<2x8x?x64xbf16>
  func.return %y : tensor<2x8x?x64xbf16>
}

// A product that allows tf32 has its instructions; those of warp groups where k is contiguous in both factors.

// CHECK-LABEL: nest.kernel @matmul
// CHECK-SAME:  #nest.schedule<loops = [m : 128, n : 128, k : 16], {{.*}}intrinsic = "nvidia.mma.m16n8k8.f32.tf32"
// SM90-LABEL:  nest.kernel @matmul
// SM90-SAME:   #nest.schedule<loops = [m : 128, n : 256, k : 32], {{.*}}intrinsic = "nvidia.wgmma.m64n256k8.f32.tf32"
func.func @tf32(%a: tensor<512x512xf32>, %b: tensor<512x512xf32>) -> tensor<512x512xf32> {
  %c = nn.matmul %a, %b {transpose_b} accumulate f32 precision tf32 : tensor<512x512xf32>, tensor<512x512xf32>
  func.return %c : tensor<512x512xf32>
}

// Without the permission f32 stays f32.

// CHECK-LABEL: nest.kernel @matmul
// CHECK-SAME:  intrinsic = "nvidia.fma.1x1x1.f32"
// SM90-LABEL:  nest.kernel @matmul
// SM90-SAME:   intrinsic = "nvidia.fma_sm90.1x1x1.f32"
func.func @single(%a: tensor<512x512xf32>, %b: tensor<512x512xf32>) -> tensor<512x512xf32> {
  %c = nn.matmul %a, %b {transpose_b} accumulate f32 : tensor<512x512xf32>, tensor<512x512xf32>
  func.return %c : tensor<512x512xf32>
}
