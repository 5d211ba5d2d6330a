// RUN: crosstile-opt --split-input-file --verify-diagnostics %s

// Iterators and index maps

func.func @names(%x: tensor<4x4xf32>) {
  // expected-error @+1 {{iterator names must differ, got i, i}}
  %y = nest.generic [i : parallel, i : parallel] ins(%x (i, i) : tensor<4x4xf32>) -> (i, i) : tensor<4x4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @unknown_iterator(%x: tensor<4x4xf32>) {
  // expected-error @+1 {{no iterator is called 'k': expects one of i, j}}
  %y = nest.generic [i : parallel, j : parallel] ins(%x (i, k) : tensor<4x4xf32>) -> (i, j) : tensor<4x4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @rank(%x: tensor<4x4xf32>) {
  // expected-error @+1 {{input 0 has rank 2 but is indexed by 1 expressions}}
  %y = nest.generic [i : parallel] ins(%x (i) : tensor<4x4xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @sizes(%x: tensor<4xf32>, %z: tensor<5xf32>) {
  // expected-error @+1 {{iterator 'i' has size 4, but dimension 0 of input 1 has size 5}}
  %y = nest.generic [i : parallel] ins(%x (i), %z (i) : tensor<4xf32>, tensor<5xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32, %q: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @unknown_size(%x: tensor<?xf32>) {
  // expected-error @+1 {{the size of iterator 'i' is not known: index a dimension of some input by 'i' alone}}
  %y = nest.generic [i : parallel] ins(%x (i floordiv 2) : tensor<?xf32>) -> (i) : tensor<?xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @constant_index(%x: tensor<4x2xf32>) {
  // expected-error @+1 {{input 0 is indexed by the constant 2 in dimension 1, whose size is 2}}
  %y = nest.generic [i : parallel] ins(%x (i, 2) : tensor<4x2xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @result_map(%x: tensor<4xf32>) {
  // expected-error @+1 {{result 0 must be indexed by distinct iterators, or by 0 where its size is 1, got i + 1 in dimension 0}}
  %y = nest.generic [i : parallel] ins(%x (i) : tensor<4xf32>) -> (i + 1) : tensor<5xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

// Combiners

func.func @no_combiner(%x: tensor<4xf32>) {
  // expected-error @+1 {{reduction iterator 'i' needs a combiner, for example combiner<add> accumulate f32}}
  %y = nest.generic [i : reduction] ins(%x (i) : tensor<4xf32>) -> () : tensor<f32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @unknown_combiner(%x: tensor<4xf32>) {
  // expected-error @+1 {{unknown combiner 'sum': expects one of add, mul, max, min, argmax, welford, logsumexp, softmax_weighted_sum, affine}}
  %y = nest.generic [i : reduction] combiner<sum> ins(%x (i) : tensor<4xf32>) -> () : tensor<f32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @nothing_to_fold(%x: tensor<4xf32>) {
  // expected-error @+1 {{combiner 'add' needs a reduction or scan iterator to fold along}}
  %y = nest.generic [i : parallel] combiner<add> accumulate f32 ins(%x (i) : tensor<4xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @no_accumulator(%x: tensor<4xf32>) {
  // expected-error @+1 {{combiner 'add' needs an accumulator type, for example accumulate f32}}
  %y = nest.generic [i : reduction] combiner<add> ins(%x (i) : tensor<4xf32>) -> () : tensor<f32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @accumulator_type(%x: tensor<4xf32>) {
  // expected-error @+1 {{the body must yield 'value' in the accumulator type f64, got f32}}
  %y = nest.generic [i : reduction] combiner<add> accumulate f64 ins(%x (i) : tensor<4xf32>) -> () : tensor<f32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @wide_factor(%x: tensor<4xf32>, %v: tensor<4x2xf64>) {
  // expected-error @+1 {{the body must yield 'value' in the accumulator type f32, or a narrower float, got f64}}
  %m, %l, %a = nest.generic [n : reduction, e : payload] combiner<softmax_weighted_sum> accumulate f32
      ins(%x (n), %v (n, e) : tensor<4xf32>, tensor<4x2xf64>) -> () : tensor<f32>, () : tensor<f32>, (e) : tensor<2xf32> {
  ^bb0(%p: f32, %q: f64):
    nest.yield %p, %q : f32, f64
  }
  func.return
}

// -----

func.func @wide_result(%x: tensor<4xf32>) {
  // expected-error @+1 {{result 0 (value) of element type f64 cannot hold the accumulator type f32: expects that type, or a narrower float}}
  %y = nest.generic [i : reduction] combiner<add> accumulate f32 ins(%x (i) : tensor<4xf32>) -> () : tensor<f64> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @components(%x: tensor<4xf32>) {
  // expected-error @+1 {{combiner 'welford' has the results count, mean, squares, but the nest has 1}}
  %y = nest.generic [i : reduction] combiner<welford> accumulate f32 ins(%x (i) : tensor<4xf32>) -> () : tensor<f32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @reduced_result(%x: tensor<4xf32>) {
  // expected-error @+1 {{result 0 is indexed by reduction iterator 'i'}}
  %y = nest.generic [i : reduction] combiner<add> accumulate f32 ins(%x (i) : tensor<4xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @missing_result_index(%x: tensor<4x4xf32>) {
  // expected-error @+1 {{result 0 is not indexed by parallel iterator 'j'}}
  %y = nest.generic [i : parallel, j : parallel] ins(%x (i, j) : tensor<4x4xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @payload(%s: tensor<4xf32>, %v: tensor<4x8xf32>) {
  // expected-error @+1 {{'score' of combiner 'softmax_weighted_sum' is uniform over payload iterators, but depends on 'd'}}
  %m, %l, %o = nest.generic [d : payload, n : reduction] combiner<softmax_weighted_sum> accumulate f32
      ins(%s (n), %v (n, d) : tensor<4xf32>, tensor<4x8xf32>) -> () : tensor<f32>, () : tensor<f32>, (d) : tensor<8xf32> {
  ^bb0(%p: f32, %q: f32):
    nest.yield %q, %q : f32, f32
  }
  func.return
}

// -----

func.func @payload_result(%s: tensor<4xf32>, %v: tensor<4x8xf32>) {
  // expected-error @+1 {{result 0 (maximum) must not be indexed by payload iterator 'd'}}
  %m, %l, %o = nest.generic [d : payload, n : reduction] combiner<softmax_weighted_sum> accumulate f32
      ins(%s (n), %v (n, d) : tensor<4xf32>, tensor<4x8xf32>)
      -> (d) : tensor<8xf32>, () : tensor<f32>, (d) : tensor<8xf32> {
  ^bb0(%p: f32, %q: f32):
    nest.yield %p, %q : f32, f32
  }
  func.return
}

// -----

// Bodies

func.func @body_arguments(%x: tensor<4xf32>) {
  // expected-error @+1 {{the body takes one element of each input, (f32), but its arguments are (f64)}}
  %y = nest.generic [i : parallel] ins(%x (i) : tensor<4xf32>) -> (i) : tensor<4xf64> {
  ^bb0(%p: f64):
    nest.yield %p : f64
  }
  func.return
}

// -----

func.func @body_yield(%x: tensor<4xf32>) {
  // expected-error @+1 {{the body must yield the results' element types (f64), got (f32)}}
  %y = nest.generic [i : parallel] ins(%x (i) : tensor<4xf32>) -> (i) : tensor<4xf64> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @capture(%x: tensor<4xf32>, %s: f32) {
  // expected-error @+1 {{the body uses a value defined outside of it: pass it as an input}}
  %y = nest.generic [i : parallel] ins(%x (i) : tensor<4xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32):
    nest.yield %s : f32
  }
  func.return
}

// -----

func.func @body_op(%x: tensor<4xf32>) {
  // expected-error @+1 {{the body is scalar code of arith, math and nest.index, got 'tensor.empty'}}
  %y = nest.generic [i : parallel] ins(%x (i) : tensor<4xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32):
    %e = tensor.empty() : tensor<4xf32>
    nest.yield %p : f32
  }
  func.return
}

// -----

func.func @index() -> tensor<4xindex> {
  %y = nest.generic [i : parallel] -> (i) : tensor<4xindex> {
    // expected-error @+1 {{no iterator is called 'j': expects one of i}}
    %j = nest.index j
    nest.yield %j : index
  }
  func.return %y : tensor<4xindex>
}

// -----

// Kernels and schedules

func.func @kernel_argument(%x: tensor<4xf32>) {
  // expected-error @+1 {{the kernel yields (tensor<4xf32>) but has results (tensor<5xf32>)}}
  %y = nest.kernel @k (%a = %x : tensor<4xf32>) -> (tensor<5xf32>) {
    nest.yield %a : tensor<4xf32>
  }
  func.return
}

// -----

func.func @kernel_op(%x: tensor<4xf32>) {
  // expected-error @+1 {{a kernel consists of nest.generic and nest.call, got 'tensor.empty'}}
  %y = nest.kernel @k (%a = %x : tensor<4xf32>) -> (tensor<4xf32>) {
    %e = tensor.empty() : tensor<4xf32>
    nest.yield %e : tensor<4xf32>
  }
  func.return
}

// -----

func.func @schedule_iterator(%x: tensor<4xf32>) {
  // expected-error @+1 {{the schedule names iterator 'm', but the root nest iterates over i}}
  %y = nest.kernel @k (%a = %x : tensor<4xf32>) -> (tensor<4xf32>) schedules [#nest.schedule<lane = m>] {
    %b = nest.generic [i : parallel] ins(%a (i) : tensor<4xf32>) -> (i) : tensor<4xf32> {
    ^bb0(%p: f32):
      nest.yield %p : f32
    }
    nest.yield %b : tensor<4xf32>
  }
  func.return
}

// -----

func.func @grid_without_loops(%x: tensor<4xf32>) {
  // expected-error @+1 {{grid [i] must list distinct iterators that have loops}}
  %y = nest.kernel @k (%a = %x : tensor<4xf32>) -> (tensor<4xf32>) schedules [#nest.schedule<grid = [i]>] {
    %b = nest.generic [i : parallel] ins(%a (i) : tensor<4xf32>) -> (i) : tensor<4xf32> {
    ^bb0(%p: f32):
      nest.yield %p : f32
    }
    nest.yield %b : tensor<4xf32>
  }
  func.return
}

// -----

// expected-error @+1 {{a raster is a positive number of rows of a grid of 2 dimensions or more, found 8 of a grid of 1}}
"builtin.module"() ({}) {schedule = #nest.schedule<loops = [i : 4], grid = [i] raster 8>} : () -> ()

// -----

// expected-error @+1 {{blocks of a grid begin in descending order, but there is no grid}}
"builtin.module"() ({}) {schedule = #nest.schedule<loops = [i : 4], grid = [] descending>} : () -> ()

// -----

// expected-error @+1 {{workers divide either the range of one iterator, 'parallel', or a grid, not both}}
"builtin.module"() ({}) {schedule = #nest.schedule<loops = [i : 4], parallel = i, grid = [i]>} : () -> ()

// -----

func.func @guarded_last(%x: tensor<4xf32>) {
  // expected-error @+1 {{the last schedule must have no guard, so that one always applies, got 'I < 8'}}
  %y = nest.kernel @k (%a = %x : tensor<4xf32>) -> (tensor<4xf32>) schedules [I < 8 : #nest.schedule<lane = i>] {
    %b = nest.generic [i : parallel] ins(%a (i) : tensor<4xf32>) -> (i) : tensor<4xf32> {
    ^bb0(%p: f32):
      nest.yield %p : f32
    }
    nest.yield %b : tensor<4xf32>
  }
  func.return
}

// -----

func.func @unreachable_schedule(%x: tensor<4xf32>) {
  // expected-error @+1 {{schedule 0 has no guard, so the schedules after it are never chosen}}
  %y = nest.kernel @k (%a = %x : tensor<4xf32>) -> (tensor<4xf32>) schedules [#nest.schedule<>, #nest.schedule<>] {
    %b = nest.generic [i : parallel] ins(%a (i) : tensor<4xf32>) -> (i) : tensor<4xf32> {
    ^bb0(%p: f32):
      nest.yield %p : f32
    }
    nest.yield %b : tensor<4xf32>
  }
  func.return
}

// -----

// expected-error @+1 {{a schedule has no part 'tile': expects loops, parallel, grid, lane, fold, stage, intrinsic}}
"builtin.module"() ({}) {schedule = #nest.schedule<tile = [8]>} : () -> ()

// -----

// expected-error @+1 {{loop 'm : 8' stands inside a loop over m with the smaller step 4: steps of one iterator shrink from the outermost loop to the innermost}}
"builtin.module"() ({}) {schedule = #nest.schedule<loops = [m : 4, m : 8]>} : () -> ()

// -----

// expected-error @+1 {{rest 64 is the narrower register tile for the last columns: expects less than the innermost step of the lane iterator, 64}}
"builtin.module"() ({}) {schedule = #nest.schedule<loops = [n : 64], lane = n, rest = 64>} : () -> ()

// -----

// expected-error @+1 {{a guard compares with one of <=, <, >=, >, ==}}
"builtin.module"() ({}) {guard = #nest.guard<M = 4>} : () -> ()

// -----

func.func @clipped(%x: tensor<4xf32>) {
  // expected-error @+1 {{clipped must list inputs, of which there are 1, got [1]}}
  %y = "nest.generic"(%x) <{iterators = [#nest.iterator<i : parallel>], indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], clipped = array<i64: 1>}> ({
  ^bb0(%p: f32):
    nest.yield %p : f32
  }) : (tensor<4xf32>) -> tensor<4xf32>
  func.return
}

// -----

func.func @kept_rows_may_be_longer(%x: tensor<?xf32>) {
  // expected-error @+1 {{the schedule keeps 64 elements of a row, but rows may be longer: expects the guard 'i <= 64', or rows of a static size}}
  %y = nest.kernel @k (%a = %x : tensor<?xf32>) -> (tensor<?xf32>)
      schedules [I <= 65 : #nest.schedule<lane = i, keep = 64>, #nest.schedule<lane = i>] {
    %r = nest.generic [i : parallel] ins(%a (i) : tensor<?xf32>) -> (i) : tensor<?xf32> {
    ^bb0(%p: f32):
      nest.yield %p : f32
    }
    nest.yield %r : tensor<?xf32>
  }
  func.return
}

// -----

func.func @held_rows_may_be_longer(%x: tensor<2x?xf32>) {
  // expected-error @+1 {{the schedule holds 64 elements of a row, but rows may be longer: expects the guard 'j <= 64', or rows of a static size}}
  %y = nest.kernel @k (%a = %x : tensor<2x?xf32>) -> (tensor<2x?xf32>)
      schedules [#nest.schedule<loops = [i : 1, j : 64], grid = [i], lane = j, hold = 64>] {
    %r = nest.generic [i : parallel, j : parallel] ins(%a (i, j) : tensor<2x?xf32>) -> (i, j) : tensor<2x?xf32> {
    ^bb0(%p: f32):
      nest.yield %p : f32
    }
    nest.yield %r : tensor<2x?xf32>
  }
  func.return
}

// -----

// expected-error @+1 {{hold 64 holds whole rows: expects a grid, and a loop over the lane iterator whose step is as large, got 32}}
"test.op"() {s = #nest.schedule<loops = [i : 1, j : 32], grid = [i], lane = j, hold = 64>} : () -> ()

// -----

func.func @precision_of_a_maximum(%x: tensor<4x4xf32>) {
  // expected-error @+1 {{precision says what a sum of products may lose, got combiner 'max'}}
  %y = nest.generic [i : parallel, j : reduction] combiner<max> accumulate f32 precision tf32
      ins(%x (i, j) : tensor<4x4xf32>) -> (i) : tensor<4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return
}
