"""The ``nest`` dialect: tensor computations as perfect loop nests, grouped into kernels that carry schedules.

One matrix product with its epilogue, as one kernel::

    %y = nest.kernel @matmul_relu (%a = %x : tensor<?x64xf32>, %b = %w : tensor<64x10xf32>) -> (tensor<?x10xf32>)
        schedules [N <= 16 : #nest.schedule<loops = [m : 14, n : 16], lane = n>, #nest.schedule<loops = [m : 8]>] {
      %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
          ins(%a (m, k), %b (k, n) : tensor<?x64xf32>, tensor<64x10xf32>) -> (m, n) : tensor<?x10xf32> {
      ^bb0(%p : f32, %q : f32):
        %t = arith.mulf %p, %q : f32
        nest.yield %t : f32
      }
      %r = nest.generic [m : parallel, n : parallel] ins(%c (m, n) : tensor<?x10xf32>) -> (m, n) : tensor<?x10xf32> {
      ^bb0(%p : f32):
        %zero = arith.constant 0.0 : f32
        %t = arith.maximumf %p, %zero : f32
        nest.yield %t : f32
      }
      nest.yield %r : tensor<?x10xf32>
    }

Files: ``attributes`` (iterators, combiner names), ``schedule`` (schedules and their guards), ``index_maps`` (text of
affine maps over named iterators), ``generic`` and ``kernel`` (the operations), ``verification`` (their rules),
``combiners`` (the rows behind the names) and ``block_forms`` (the same in tile operations), ``meaning`` (what a nest
computes, in NumPy), ``analysis``, ``shared_iterators``, ``axes`` and ``contraction_roles`` (what passes and lowerings
ask of nests), ``merging`` (fewer nests with the same results), ``kernel_names``.
"""

from xdsl.ir import Dialect

from crosstile.dialects.nest.attributes import CombinerAttr, IteratorAttr
from crosstile.dialects.nest.generic import GenericOp, IndexOp, YieldOp
from crosstile.dialects.nest.kernel import CallOp, KernelOp
from crosstile.dialects.nest.schedule import GuardAttr, GuardedScheduleAttr, ScheduleAttr

Nest = Dialect(
    "nest",
    [KernelOp, GenericOp, YieldOp, IndexOp, CallOp],
    [IteratorAttr, CombinerAttr, ScheduleAttr, GuardAttr, GuardedScheduleAttr],
)
