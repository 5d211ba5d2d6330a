// Layer normalisation of the rows of X [M, N] on an AVX-512 core: Y = (x - mean) / sqrt(variance + epsilon) * gamma + beta.
//
// A row has any length N of at least 1, so it is read three times, in blocks of 4 rows and 64 columns: for the mean, for
// the sum of squares of the centred row (which, unlike the difference of two means, cancels nothing), and to write it.
// The second and the third time it comes from L1 or L2.
//
// Each lane keeps its own partial sums; only at the end are they added over registers and lanes, in the order that
// mma.reduce defines. So a result depends neither on the number of workers nor on the other rows.

#tile    = #mma.layout<tile(4, 64) register(4:64, 4:16) lane(16:1)>
#rows    = #mma.layout<tile(4, 1) register(4:1) lane(16:0)>
#columns = #mma.layout<tile(1, 64) register(4:16) lane(16:1)>

!tile    = !mma.fragment<4x64xf32, #tile>
!rows    = !mma.fragment<4x1xf32, #rows>
!columns = !mma.fragment<1x64xf32, #columns>

mma.kernel @layer_norm(%X: memref<?x?xf32>, %gamma: memref<?xf32>, %beta: memref<?xf32>, %Y: memref<?x?xf32>,
                       %epsilon: f32) target "x86-64-avx512" {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %c64 = arith.constant 64 : index
  %zero = arith.constant 0.0 : f32
  %M = memref.dim %X, %c0 : memref<?x?xf32>
  %N = memref.dim %X, %c1 : memref<?x?xf32>
  %N_integer = arith.index_cast %N : index to i64
  %count = arith.sitofp %N_integer : i64 to f32

  mma.parallel %i_begin to %i_end = %c0 to %M grain 4 {
    scf.for %i = %i_begin to %i_end step %c4 {
      %mr = arith.subi %i_end, %i : index
      %nothing = mma.splat %zero : f32 -> !tile

      %sums = scf.for %j = %c0 to %N step %c64 iter_args(%partial = %nothing) -> (!tile) {
        %nr = arith.subi %N, %j : index
        %x = mma.load %X[%i, %j] extent [%mr, %nr] pad 0.0 clamp [0] : memref<?x?xf32> -> !tile
        %next = mma.map (%partial, %x : !tile, !tile) -> !tile {
        ^bb0(%s: f32, %e: f32):
          %r = arith.addf %s, %e : f32
          mma.yield %r : f32
        }
        scf.yield %next : !tile
      }
      %sum = mma.reduce add %sums dims [1] : !tile -> !rows
      %mean = mma.map (%sum : !rows) -> !rows {
      ^bb0(%s: f32):
        %r = arith.divf %s, %count : f32
        mma.yield %r : f32
      }

      %squares = scf.for %j = %c0 to %N step %c64 iter_args(%partial = %nothing) -> (!tile) {
        %nr = arith.subi %N, %j : index
        %x = mma.load %X[%i, %j] extent [%mr, %nr] pad 0.0 clamp [0] : memref<?x?xf32> -> !tile
        %centred = mma.map (%x, %mean : !tile, !rows) -> !tile {
        ^bb0(%e: f32, %m: f32):
          %r = arith.subf %e, %m : f32
          mma.yield %r : f32
        }
        // Beyond the row's end 0 - mean is not 0.
        %inside = mma.mask %centred extent [_, %nr] else 0.0 : !tile
        %next = mma.map (%partial, %inside : !tile, !tile) -> !tile {
        ^bb0(%s: f32, %d: f32):
          %square = arith.mulf %d, %d : f32
          %r = arith.addf %s, %square : f32
          mma.yield %r : f32
        }
        scf.yield %next : !tile
      }
      %square_sum = mma.reduce add %squares dims [1] : !tile -> !rows
      %factor = mma.map (%square_sum : !rows) -> !rows {
      ^bb0(%s: f32):
        %variance = arith.divf %s, %count : f32
        %shifted = arith.addf %variance, %epsilon : f32
        %r = math.rsqrt %shifted : f32
        mma.yield %r : f32
      }

      scf.for %j = %c0 to %N step %c64 {
        %nr = arith.subi %N, %j : index
        %x = mma.load %X[%i, %j] extent [%mr, %nr] clamp [0] : memref<?x?xf32> -> !tile
        %g = mma.load %gamma by affine_map<(r, c)[j] -> (j + c)>[%j] extent [_, %nr] : memref<?xf32> -> !columns
        %b = mma.load %beta by affine_map<(r, c)[j] -> (j + c)>[%j] extent [_, %nr] : memref<?xf32> -> !columns
        %y = mma.map (%x, %mean, %factor, %g, %b : !tile, !rows, !rows, !columns, !columns) -> !tile {
        ^bb0(%e: f32, %m: f32, %f: f32, %weight: f32, %bias: f32):
          %centred = arith.subf %e, %m : f32
          %normal = arith.mulf %centred, %f : f32
          %scaled = arith.mulf %normal, %weight : f32
          %r = arith.addf %scaled, %bias : f32
          mma.yield %r : f32
        }
        mma.store %y, %Y[%i, %j] extent [%mr, %nr] : !tile, memref<?x?xf32>
      }
    }
  }
}
