// RUN: crosstile-opt %s --choose-schedule=target=x86-64-avx512 | filecheck %s
// RUN: crosstile-opt %s --choose-schedule=target=x86-64-avx2 | filecheck %s --check-prefix=AVX2
// RUN: crosstile-opt %s --choose-schedule=target=x86-64-amx | filecheck %s --check-prefix=BF16
// RUN: crosstile-opt %s --choose-schedule=target=x86-64-avx512-bf16 | filecheck %s --check-prefix=WORDS

// All sizes at run time: variants for narrow results, for one row, four and few and for small products, which do not
// pack, and the general one, whose panel takes a quarter of L2 and its rows half of L3.

// CHECK-LABEL: func.func @product
// CHECK:         nest.kernel @product
// CHECK-SAME:    schedules [
// CHECK-SAME:      n <= 16 : #nest.schedule<loops = [k : 4096 balanced 8, m : 504, n : 16, m : 12], parallel = m grain 12, lane = n, stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32">,
// CHECK-SAME:      m <= 1 : #nest.schedule<loops = [m : 1, k : 8, n : 128], parallel = n grain 128, lane = n, intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 8>,
// CHECK-SAME:      m <= 4 : #nest.schedule<loops = [k : 8, n : 64, m : 4], parallel = n grain 64, lane = n, intrinsic = "x86.avx512.fma.1x16x1.f32", prefetch = 768>,
// CHECK-SAME:      m <= 32 : #nest.schedule<loops = [k : 32, n : 48, m : 8], parallel = n grain 48, lane = n, intrinsic = "x86.avx512.fma.1x16x1.f32", prefetch = 768>,
// CHECK-SAME:      m <= 512 and k <= 256 and n <= 256 : #nest.schedule<loops = [k : 1024 balanced 8, n : 64, m : 6], parallel = m grain 6, lane = n, intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2, rest = 48>,
// CHECK-SAME:      #nest.schedule<loops = [k : 1024 balanced 8, m : 2046, n : 128, m : 24, n : 64, m : 6], parallel = m grain 6, lane = n, stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2, rest = 48>]
// AVX2-LABEL:  func.func @product
// AVX2:          {{.*}}n : 32, m : 24, n : 16, m : 6], parallel = m grain 6, lane = n, stage = [1], intrinsic = "x86.avx2.fma.1x8x1.f32", unroll = 2, rest = 8>]
func.func @product(%x : tensor<?x?xf32>, %w : tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @product (%a = %x : tensor<?x?xf32>, %b = %w : tensor<?x?xf32>) -> (tensor<?x?xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}

// A transposed right-hand side is always packed; static sizes need no guards, and ten columns one vector.

// CHECK-LABEL: func.func @transposed
// CHECK:         nest.kernel @transposed
// CHECK-SAME:    schedules [#nest.schedule<loops = [k : 64 balanced 8, m : {{[0-9]+}}, n : 16, m : 12], parallel = m grain 12, lane = n, stage = [1]
func.func @transposed(%x : tensor<100x64xf32>, %w : tensor<10x64xf32>) -> tensor<100x10xf32> {
  %y = nest.kernel @transposed (%a = %x : tensor<100x64xf32>, %b = %w : tensor<10x64xf32>) -> (tensor<100x10xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (n, k) : tensor<100x64xf32>, tensor<10x64xf32>) -> (m, n) : tensor<100x10xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<100x10xf32>
  }
  func.return %y : tensor<100x10xf32>
}

// Small products of known sizes do not pack either, those of 64 bits up to half as many columns; a few rows too many do.

// CHECK-LABEL: func.func @small
// CHECK:         nest.kernel @fits
// CHECK-SAME:    schedules [#nest.schedule<loops = [k : 256 balanced 8, n : 64, m : 6], parallel = m grain 6, lane = n, intrinsic
// CHECK:         nest.kernel @tall
// CHECK-SAME:    schedules [#nest.schedule<loops = [{{.*}}stage = [1]
// CHECK:         nest.kernel @wide
// CHECK-SAME:    schedules [#nest.schedule<loops = [{{.*}}stage = [1]
func.func @small(%x : tensor<512x256xf32>, %w : tensor<256x256xf32>, %t : tensor<513x256xf32>, %u : tensor<512x256xf64>, %v : tensor<256x129xf64>) -> (tensor<512x256xf32>, tensor<513x256xf32>, tensor<512x129xf64>) {
  %y = nest.kernel @fits (%a = %x : tensor<512x256xf32>, %b = %w : tensor<256x256xf32>) -> (tensor<512x256xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<512x256xf32>, tensor<256x256xf32>) -> (m, n) : tensor<512x256xf32> {
    ^bb0(%p : f32, %q : f32):
      %r = arith.mulf %p, %q : f32
      nest.yield %r : f32
    }
    nest.yield %c : tensor<512x256xf32>
  }
  %z = nest.kernel @tall (%a = %t : tensor<513x256xf32>, %b = %w : tensor<256x256xf32>) -> (tensor<513x256xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<513x256xf32>, tensor<256x256xf32>) -> (m, n) : tensor<513x256xf32> {
    ^bb0(%p : f32, %q : f32):
      %r = arith.mulf %p, %q : f32
      nest.yield %r : f32
    }
    nest.yield %c : tensor<513x256xf32>
  }
  %s = nest.kernel @wide (%a = %u : tensor<512x256xf64>, %b = %v : tensor<256x129xf64>) -> (tensor<512x129xf64>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f64
        ins(%a (m, k), %b (k, n) : tensor<512x256xf64>, tensor<256x129xf64>) -> (m, n) : tensor<512x129xf64> {
    ^bb0(%p : f64, %q : f64):
      %r = arith.mulf %p, %q : f64
      nest.yield %r : f64
    }
    nest.yield %c : tensor<512x129xf64>
  }
  func.return %y, %z, %s : tensor<512x256xf32>, tensor<513x256xf32>, tensor<512x129xf64>
}

// A transposed left-hand side is packed as well.

// CHECK-LABEL: func.func @transposed_lhs
// CHECK:         nest.kernel @transposed_lhs
// CHECK-SAME:    stage = [0, 1]
func.func @transposed_lhs(%x : tensor<64x100xf32>, %w : tensor<64x10xf32>) -> tensor<100x10xf32> {
  %y = nest.kernel @transposed_lhs (%a = %x : tensor<64x100xf32>, %b = %w : tensor<64x10xf32>) -> (tensor<100x10xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (k, m), %b (k, n) : tensor<64x100xf32>, tensor<64x10xf32>) -> (m, n) : tensor<100x10xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<100x10xf32>
  }
  func.return %y : tensor<100x10xf32>
}

// Rows are swept: the sum may be split over lanes because reassoc is set, and may not where it is not.

// CHECK-LABEL: func.func @row_sum
// CHECK:         nest.kernel @row_sum
// CHECK-SAME:    schedules [#nest.schedule<loops = [m : 1, n : 64], parallel = m, lane = n, prefetch = 16384, stream = 16777216>]
func.func @row_sum(%x : tensor<?x?xf32>) -> tensor<?xf32> {
  %y = nest.kernel @row_sum (%a = %x : tensor<?x?xf32>) -> (tensor<?xf32>) {
    %c = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%a (m, n) : tensor<?x?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    nest.yield %c : tensor<?xf32>
  }
  func.return %y : tensor<?xf32>
}

// CHECK-LABEL: func.func @ordered_row_sum
// CHECK:         nest.kernel @ordered_row_sum
// CHECK-SAME:    schedules [#nest.schedule<loops = [n : 1, m : 64], parallel = m grain 64, lane = m, prefetch = 16384, stream = 16777216>]
func.func @ordered_row_sum(%x : tensor<?x?xf32>) -> tensor<?xf32> {
  %y = nest.kernel @ordered_row_sum (%a = %x : tensor<?x?xf32>) -> (tensor<?xf32>) {
    %c = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32
        ins(%a (m, n) : tensor<?x?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    nest.yield %c : tensor<?xf32>
  }
  func.return %y : tensor<?xf32>
}

// A schedule that is there stays.

// CHECK-LABEL: func.func @kept
// CHECK:         nest.kernel @kept
// CHECK-SAME:    schedules [#nest.schedule<loops = [m : 3], lane = m>]
func.func @kept(%x : tensor<?xf32>) -> tensor<?xf32> {
  %y = nest.kernel @kept (%a = %x : tensor<?xf32>) -> (tensor<?xf32>) schedules [#nest.schedule<loops = [m : 3], lane = m>] {
    %c = nest.generic [m : parallel] ins(%a (m) : tensor<?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      %t = arith.negf %p : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?xf32>
  }
  func.return %y : tensor<?xf32>
}

// Attention: a grid of blocks of three vectors of queries, which meet 64 keys at a time; one vector for few queries, four
// where they go without a rest. The fewest are rows, and keys lie across lanes.

// CHECK-LABEL: func.func @attention
// CHECK:         schedules [m <= 1 : #nest.schedule<loops = [h : 1, m : 1, n : 64, k : 20, e : 48], grid = [h, m], lane = n ordered, stage = [1],
// CHECK-SAME:      m <= 4 : #nest.schedule<loops = [h : 1, m : 4, n : 64,
// CHECK-SAME:      m <= 16 : #nest.schedule<loops = [h : 1, m : 16, n : 64,
// CHECK-SAME:      m mod 64 == 0 and m <= 1024 : #nest.schedule<loops = [h : 1, m : 64, n : 64,
// CHECK-SAME:      #nest.schedule<loops = [h : 1, m : 48, n : 64, k : 20, e : 40], grid = [h, m], lane = m, stage = [0], intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2, prefetch = 32768>]
// AVX2-LABEL:  func.func @attention
// AVX2:          m mod 32 == 0 and m <= 1024
// AVX2-SAME:     #nest.schedule<loops = [h : 1, m : 24, n : 64, k : 20, e : 40]
func.func @attention(%q : tensor<?x?x20xf32>, %k : tensor<?x?x20xf32>, %v : tensor<?x?x33xf32>) -> tensor<?x?x33xf32> {
  %y = nest.kernel @attention (%a = %q : tensor<?x?x20xf32>, %b = %k : tensor<?x?x20xf32>, %c = %v : tensor<?x?x33xf32>)
      -> (tensor<?x?x33xf32>) {
    %s = nest.generic [h : parallel, m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (h, m, k), %b (h, n, k) : tensor<?x?x20xf32>, tensor<?x?x20xf32>) -> (h, m, n) : tensor<?x?x?xf32> {
    ^bb0(%p : f32, %q1 : f32):
      %t = arith.mulf %p, %q1 : f32
      nest.yield %t : f32
    }
    %x, %l, %w = nest.generic [h : parallel, m : parallel, e : payload, n : reduction] combiner<softmax_weighted_sum>
        accumulate f32 fastmath<reassoc> ins(%s (h, m, n), %c (h, n, e) : tensor<?x?x?xf32>, tensor<?x?x33xf32>)
        -> (h, m) : tensor<?x?xf32>, (h, m) : tensor<?x?xf32>, (h, m, e) : tensor<?x?x33xf32> {
    ^bb0(%p : f32, %q1 : f32):
      nest.yield %p, %q1 : f32, f32
    }
    %o = nest.generic [h : parallel, m : parallel, e : parallel]
        ins(%w (h, m, e), %l (h, m) : tensor<?x?x33xf32>, tensor<?x?xf32>) -> (h, m, e) : tensor<?x?x33xf32> {
    ^bb0(%p : f32, %q1 : f32):
      %t = arith.divf %p, %q1 : f32
      nest.yield %t : f32
    }
    nest.yield %o : tensor<?x?x33xf32>
  }
  func.return %y : tensor<?x?x33xf32>
}

// In bf16: keys and values are widened as they are staged where products are of f32, and packed for tile registers, whose
// instruction fills heads and blocks up; more queries share what is packed, and more keys a pass over the sums. Where the
// instruction takes words, keys that lie in memory in words of theirs are read in place, and the values packed.

// CHECK-LABEL: func.func @narrow_attention
// CHECK:         #nest.schedule<loops = [h : 1, m : 48, n : 64, k : 20, e : 40], grid = [h, m], lane = m, stage = [0, 1, 2], intrinsic = "x86.avx512.fma.1x16x1.f32",
// WORDS-LABEL: func.func @narrow_attention
// WORDS:         schedules [m <= 1 : {{.*}} lane = n ordered, stage = [1], intrinsic = "x86.avx512.vdpbf16ps.1x16x2.f32.bf16", unroll = 2>,
// WORDS-SAME:      m <= 16 : #nest.schedule<loops = [h : 1, m : 16, n : 64, k : 20, e : 40], grid = [h, m], lane = m, stage = [0, 2], intrinsic = "x86.avx512.vdpbf16ps.1x16x2.f32.bf16">,
// WORDS-SAME:      #nest.schedule<loops = [h : 1, m : 64, n : 64, k : 20, e : 40], grid = [h, m], lane = m, stage = [0, 2], intrinsic = "x86.avx512.vdpbf16ps.1x16x2.f32.bf16", unroll = 2, prefetch = 32768>]
// BF16-LABEL:  func.func @narrow_attention
// BF16:          schedules [m <= 16 : #nest.schedule<loops = [h : 1, m : 16, n : 192, k : 32, e : 48],
// BF16-SAME:       m <= 64 : #nest.schedule<loops = [h : 1, m : 64, n : 192,
// BF16-SAME:       #nest.schedule<loops = [h : 1, m : 128, n : 192, k : 32, e : 48], grid = [h, m], lane = m, stage = [0, 1, 2], intrinsic = "x86.amx.tdpbf16ps.16x16x32.f32.bf16">]
func.func @narrow_attention(%q : tensor<?x?x20xbf16>, %k : tensor<?x?x20xbf16>, %v : tensor<?x?x33xbf16>) -> tensor<?x?x33xf32> {
  %y = nest.kernel @narrow (%a = %q : tensor<?x?x20xbf16>, %b = %k : tensor<?x?x20xbf16>, %c = %v : tensor<?x?x33xbf16>)
      -> (tensor<?x?x33xf32>) {
    %s = nest.generic [h : parallel, m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (h, m, k), %b (h, n, k) : tensor<?x?x20xbf16>, tensor<?x?x20xbf16>) -> (h, m, n) : tensor<?x?x?xf32> {
    ^bb0(%p : bf16, %q1 : bf16):
      %p1 = arith.extf %p : bf16 to f32
      %q2 = arith.extf %q1 : bf16 to f32
      %t = arith.mulf %p1, %q2 : f32
      nest.yield %t : f32
    }
    %x, %l, %w = nest.generic [h : parallel, m : parallel, e : payload, n : reduction] combiner<softmax_weighted_sum>
        accumulate f32 fastmath<reassoc> ins(%s (h, m, n), %c (h, n, e) : tensor<?x?x?xf32>, tensor<?x?x33xbf16>)
        -> (h, m) : tensor<?x?xf32>, (h, m) : tensor<?x?xf32>, (h, m, e) : tensor<?x?x33xf32> {
    ^bb0(%p : f32, %q1 : bf16):
      nest.yield %p, %q1 : f32, bf16
    }
    %o = nest.generic [h : parallel, m : parallel, e : parallel]
        ins(%w (h, m, e), %l (h, m) : tensor<?x?x33xf32>, tensor<?x?xf32>) -> (h, m, e) : tensor<?x?x33xf32> {
    ^bb0(%p : f32, %q1 : f32):
      %t = arith.divf %p, %q1 : f32
      nest.yield %t : f32
    }
    nest.yield %o : tensor<?x?x33xf32>
  }
  func.return %y : tensor<?x?x33xf32>
}

// Exponentials that two sweeps use wait in scratch between them, where a row of them takes little of the second cache.

// CHECK-LABEL: func.func @shares
// CHECK:         nest.kernel @shares
// CHECK-SAME:    schedules [n <= 16384 : #nest.schedule<loops = [m : 1, n : 64], parallel = m, lane = n, keep = 16384, prefetch = 16384, stream = 16777216>,
// CHECK-SAME:      #nest.schedule<loops = [m : 1, n : 64], parallel = m, lane = n, prefetch = 16384, stream = 16777216>]
func.func @shares(%x : tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @shares (%a = %x : tensor<?x?xf32>) -> (tensor<?x?xf32>) {
    %e = nest.generic [m : parallel, n : parallel] ins(%a (m, n) : tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32):
      %t = math.exp %p : f32
      nest.yield %t : f32
    }
    %s = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%e (m, n) : tensor<?x?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    %r = nest.generic [m : parallel, n : parallel]
        ins(%e (m, n), %s (m) : tensor<?x?xf32>, tensor<?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.divf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %r : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}

// What is read across its rows goes through the registers in square blocks.

// CHECK-LABEL: func.func @transposes
// CHECK:         nest.kernel @transposes
// CHECK-SAME:    schedules [#nest.schedule<loops = [b : 1, m : 256, n : 16, m : 16], parallel = b, lane = n, stream = 16777216>]
func.func @transposes(%x : tensor<?x?x?xf32>) -> tensor<?x?x?xf32> {
  %y = nest.kernel @transposes (%a = %x : tensor<?x?x?xf32>) -> (tensor<?x?x?xf32>) {
    %r = nest.generic [b : parallel, m : parallel, n : parallel]
        ins(%a (b, n, m) : tensor<?x?x?xf32>) -> (b, m, n) : tensor<?x?x?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    nest.yield %r : tensor<?x?x?xf32>
  }
  func.return %y : tensor<?x?x?xf32>
}

// Results narrower than the sums: between blocks of k the sums wait in a result of their own type, which nobody reads.
// Where one block is all of k they need not.

// BF16-LABEL:  func.func @narrow
// BF16:          %{{.*}}, %{{.*}} = nest.kernel @narrow ({{.*}}) -> (tensor<64x100xbf16>, tensor<64x100xf32>)
// BF16-SAME:       k : 256 balanced 32
// BF16:            nest.yield %{{.*}}, %{{.*}} : tensor<64x100xbf16>, tensor<64x100xf32>
// BF16:            nest.kernel @short ({{.*}}) -> (tensor<64x100xbf16>) schedules
func.func @narrow(%x : tensor<64x1000xbf16>, %w : tensor<1000x100xbf16>, %s : tensor<64x8xbf16>, %t : tensor<8x100xbf16>)
    -> (tensor<64x100xbf16>, tensor<64x100xbf16>) {
  %y = nest.kernel @narrow (%a = %x : tensor<64x1000xbf16>, %b = %w : tensor<1000x100xbf16>) -> (tensor<64x100xbf16>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<64x1000xbf16>, tensor<1000x100xbf16>) -> (m, n) : tensor<64x100xf32> {
    ^bb0(%p : bf16, %q : bf16):
      %f = arith.extf %p : bf16 to f32
      %g = arith.extf %q : bf16 to f32
      %h = arith.mulf %f, %g : f32
      nest.yield %h : f32
    }
    %r = nest.generic [m : parallel, n : parallel] ins(%c (m, n) : tensor<64x100xf32>) -> (m, n) : tensor<64x100xbf16> {
    ^bb0(%p : f32):
      %f = arith.truncf %p : f32 to bf16
      nest.yield %f : bf16
    }
    nest.yield %r : tensor<64x100xbf16>
  }
  %z = nest.kernel @short (%a = %s : tensor<64x8xbf16>, %b = %t : tensor<8x100xbf16>) -> (tensor<64x100xbf16>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<64x8xbf16>, tensor<8x100xbf16>) -> (m, n) : tensor<64x100xf32> {
    ^bb0(%p : bf16, %q : bf16):
      %f = arith.extf %p : bf16 to f32
      %g = arith.extf %q : bf16 to f32
      %h = arith.mulf %f, %g : f32
      nest.yield %h : f32
    }
    %r = nest.generic [m : parallel, n : parallel] ins(%c (m, n) : tensor<64x100xf32>) -> (m, n) : tensor<64x100xbf16> {
    ^bb0(%p : f32):
      %f = arith.truncf %p : f32 to bf16
      nest.yield %f : bf16
    }
    nest.yield %r : tensor<64x100xbf16>
  }
  func.return %y, %z : tensor<64x100xbf16>, tensor<64x100xbf16>
}

// Sums of columns: as many side by side as registers hold where rows are long.

// CHECK-LABEL: func.func @columns
// CHECK:         schedules [n >= 512 : #nest.schedule<loops = [m : 1, n : 256], parallel = n grain 256, lane = n,
// CHECK-SAME:      #nest.schedule<loops = [m : 1, n : 64], parallel = n grain 64, lane = n,
func.func @columns(%x : tensor<?x?xf32>) -> tensor<?xf32> {
  %y = nest.kernel @sum (%a = %x : tensor<?x?xf32>) -> (tensor<?xf32>) {
    %s = nest.generic [m : reduction, n : parallel] combiner<add> accumulate f32
        ins(%a (m, n) : tensor<?x?xf32>) -> (n) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    nest.yield %s : tensor<?xf32>
  }
  func.return %y : tensor<?xf32>
}

// One query of each head, keys by heads: they are packed, and values read in place, also where tile registers would leave
// 15 of 16 rows empty. Keys that lie along each other are read in place as well.

// CHECK-LABEL: func.func @one_query
// CHECK:         schedules [#nest.schedule<loops = [h : 1, n : 64, k : 64, e : 64], grid = [h], lane = n ordered, stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2>]
// BF16-LABEL:  func.func @one_query
// BF16:          schedules [#nest.schedule<loops = [h : 1, n : 64, k : 64, e : 64], grid = [h], lane = n ordered, stage = [1], intrinsic = "x86.avx512.vdpbf16ps.1x16x2.f32.bf16", unroll = 2>]
func.func @one_query(%q : tensor<8x64xbf16>, %k : tensor<8x?x64xbf16>, %v : tensor<8x?x64xbf16>) -> tensor<8x64xf32> {
  %y = nest.kernel @one_query (%a = %q : tensor<8x64xbf16>, %b = %k : tensor<8x?x64xbf16>, %c = %v : tensor<8x?x64xbf16>)
      -> (tensor<8x64xf32>) {
    %s = nest.generic [h : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (h, k), %b (h, n, k) : tensor<8x64xbf16>, tensor<8x?x64xbf16>) -> (h, n) : tensor<8x?xf32> {
    ^bb0(%p : bf16, %q1 : bf16):
      %p1 = arith.extf %p : bf16 to f32
      %q2 = arith.extf %q1 : bf16 to f32
      %t = arith.mulf %p1, %q2 : f32
      nest.yield %t : f32
    }
    %x, %l, %w = nest.generic [h : parallel, e : payload, n : reduction] combiner<softmax_weighted_sum>
        accumulate f32 fastmath<reassoc> ins(%s (h, n), %c (h, n, e) : tensor<8x?xf32>, tensor<8x?x64xbf16>)
        -> (h) : tensor<8xf32>, (h) : tensor<8xf32>, (h, e) : tensor<8x64xf32> {
    ^bb0(%p : f32, %q1 : bf16):
      nest.yield %p, %q1 : f32, bf16
    }
    %o = nest.generic [h : parallel, e : parallel] ins(%w (h, e), %l (h) : tensor<8x64xf32>, tensor<8xf32>)
        -> (h, e) : tensor<8x64xf32> {
    ^bb0(%p : f32, %q1 : f32):
      %t = arith.divf %p, %q1 : f32
      nest.yield %t : f32
    }
    nest.yield %o : tensor<8x64xf32>
  }
  func.return %y : tensor<8x64xf32>
}

// CHECK-LABEL: func.func @keys_along_each_other
// CHECK:         lane = n ordered, intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2>]
func.func @keys_along_each_other(%q : tensor<64xf32>, %k : tensor<64x?xf32>, %v : tensor<?x64xf32>) -> tensor<64xf32> {
  %y = nest.kernel @keys_along (%a = %q : tensor<64xf32>, %b = %k : tensor<64x?xf32>, %c = %v : tensor<?x64xf32>)
      -> (tensor<64xf32>) {
    %s = nest.generic [n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (k), %b (k, n) : tensor<64xf32>, tensor<64x?xf32>) -> (n) : tensor<?xf32> {
    ^bb0(%p : f32, %q1 : f32):
      %t = arith.mulf %p, %q1 : f32
      nest.yield %t : f32
    }
    %x, %l, %w = nest.generic [e : payload, n : reduction] combiner<softmax_weighted_sum>
        accumulate f32 fastmath<reassoc> ins(%s (n), %c (n, e) : tensor<?xf32>, tensor<?x64xf32>)
        -> () : tensor<f32>, () : tensor<f32>, (e) : tensor<64xf32> {
    ^bb0(%p : f32, %q1 : f32):
      nest.yield %p, %q1 : f32, f32
    }
    %o = nest.generic [e : parallel] ins(%w (e), %l () : tensor<64xf32>, tensor<f32>) -> (e) : tensor<64xf32> {
    ^bb0(%p : f32, %q1 : f32):
      %t = arith.divf %p, %q1 : f32
      nest.yield %t : f32
    }
    nest.yield %o : tensor<64xf32>
  }
  func.return %y : tensor<64xf32>
}
