// y = (x - mean) * rsqrt(variance + epsilon) * gamma + beta over rows whose length is only known at run time.
//
// A row does not fit into registers, so it is read three times, from cache: for the mean, for the variance, and to write
// the result. Taking the variance from the sum of squares would save one pass and lose all digits of rows whose mean is
// large, so the squares are of x - mean.
//
// A sum is kept in 64 partial sums per row, one per lane: a block of 64 columns is *added* to them lane by lane, and only
// after the last block are the lanes summed. So the loop has one vector addition per 16 numbers and no shuffles.
// The last block is shorter: it loads zeros beyond the row, which add nothing to the sum, but (0 - mean)^2 would, and is
// masked.
//
// Four rows are done together because their chains of additions are independent: one chain alone would wait four cycles
// for each addition.
tile.kernel @layer_norm(%x : memref<?x?xf32>, %gamma : memref<?xf32>, %beta : memref<?xf32>, %y : memref<?x?xf32>,
                        %epsilon : f32) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %rows = tile.dim %x, 0 : memref<?x?xf32>
  %columns = tile.dim %x, 1 : memref<?x?xf32>
  %columns_i64 = arith.index_cast %columns : index to i64
  %count = arith.sitofp %columns_i64 : i64 to f32
  tile.parallel %r0 to %r1 = %zero to %rows grain 4 {
    tile.for %r, %rc = %r0 to %r1 step 4 {
      %no_sum = tile.splat %f0 : f32 -> !tile.tile<4x64xf32>

      %sums = tile.for %j, %jc = %zero to %columns step 64 iter_args(%sum = %no_sum) -> (!tile.tile<4x64xf32>) {
        %w = tile.window %x[%r, %j] extent [%rc, %jc] : memref<?x?xf32> -> !tile.window<4x64xf32>
        %t = tile.load %w : !tile.window<4x64xf32> -> !tile.tile<4x64xf32>
        %next = tile.map (%sum, %t : !tile.tile<4x64xf32>, !tile.tile<4x64xf32>) -> !tile.tile<4x64xf32> {
        ^bb0(%a : f32, %b : f32):
          %c = arith.addf %a, %b : f32
          tile.yield %c : f32
        }
        tile.yield %next : !tile.tile<4x64xf32>
      }
      %total = tile.reduce add %sums dims [1] : !tile.tile<4x64xf32> -> !tile.tile<4x1xf32>
      %mean = tile.map (%total : !tile.tile<4x1xf32>) -> !tile.tile<4x1xf32> {
      ^bb0(%a : f32):
        %b = arith.divf %a, %count : f32
        tile.yield %b : f32
      }

      %squares = tile.for %j, %jc = %zero to %columns step 64 iter_args(%sum = %no_sum) -> (!tile.tile<4x64xf32>) {
        %w = tile.window %x[%r, %j] extent [%rc, %jc] : memref<?x?xf32> -> !tile.window<4x64xf32>
        %t = tile.load %w : !tile.window<4x64xf32> -> !tile.tile<4x64xf32>
        %square = tile.map (%t, %mean : !tile.tile<4x64xf32>, !tile.tile<4x1xf32>) -> !tile.tile<4x64xf32> {
        ^bb0(%a : f32, %m : f32):
          %d = arith.subf %a, %m : f32
          %e = arith.mulf %d, %d : f32
          tile.yield %e : f32
        }
        %inside = tile.mask %square extent [_, %jc] else 0.0 : !tile.tile<4x64xf32>
        %next = tile.map (%sum, %inside : !tile.tile<4x64xf32>, !tile.tile<4x64xf32>) -> !tile.tile<4x64xf32> {
        ^bb0(%a : f32, %b : f32):
          %c = arith.addf %a, %b : f32
          tile.yield %c : f32
        }
        tile.yield %next : !tile.tile<4x64xf32>
      }
      %total_square = tile.reduce add %squares dims [1] : !tile.tile<4x64xf32> -> !tile.tile<4x1xf32>
      %factor = tile.map (%total_square : !tile.tile<4x1xf32>) -> !tile.tile<4x1xf32> {
      ^bb0(%a : f32):
        %variance = arith.divf %a, %count : f32
        %b = arith.addf %variance, %epsilon : f32
        %c = math.rsqrt %b : f32
        tile.yield %c : f32
      }

      tile.for %j, %jc = %zero to %columns step 64 {
        %w = tile.window %x[%r, %j] extent [%rc, %jc] : memref<?x?xf32> -> !tile.window<4x64xf32>
        // One row of gamma for all rows of x: a vector seen through a window of rank 2 is a row.
        %gw = tile.window %gamma[%j] extent [_, %jc] : memref<?xf32> -> !tile.window<1x64xf32>
        %bw = tile.window %beta[%j] extent [_, %jc] : memref<?xf32> -> !tile.window<1x64xf32>
        %t = tile.load %w : !tile.window<4x64xf32> -> !tile.tile<4x64xf32>
        %g = tile.load %gw : !tile.window<1x64xf32> -> !tile.tile<1x64xf32>
        %b = tile.load %bw : !tile.window<1x64xf32> -> !tile.tile<1x64xf32>
        %result = tile.map (%t, %mean, %factor, %g, %b : !tile.tile<4x64xf32>, !tile.tile<4x1xf32>, !tile.tile<4x1xf32>,
                            !tile.tile<1x64xf32>, !tile.tile<1x64xf32>) -> !tile.tile<4x64xf32> {
        ^bb0(%a : f32, %m : f32, %f : f32, %scale : f32, %offset : f32):
          %d = arith.subf %a, %m : f32
          %n = arith.mulf %d, %f : f32
          %s = arith.mulf %n, %scale : f32
          %o = arith.addf %s, %offset : f32
          tile.yield %o : f32
        }
        %yw = tile.window %y[%r, %j] extent [%rc, %jc] : memref<?x?xf32> -> !tile.window<4x64xf32>
        tile.store %result, %yw : !tile.tile<4x64xf32>, !tile.window<4x64xf32>
      }
    }
  }
  tile.return
}
