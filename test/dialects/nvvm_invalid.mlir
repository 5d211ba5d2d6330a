// RUN: crosstile-opt %s --split-input-file --verify-diagnostics

llvm.func @copy(%to: !llvm.ptr<3>, %from: !llvm.ptr<1>) {
  // expected-error @+1 {{copies 8 bytes with cache = cg; expects 4, 8 or 16, and 16 with cg}}
  nvvm.cp.async.shared.global %to, %from, 8, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>
  llvm.return
}

// -----

llvm.func @registers() {
  // expected-error @+1 {{20 registers; expects a multiple of 8 from 24 to 256}}
  nvvm.setmaxregister decrease 20
  llvm.return
}

// -----

llvm.func @matrices(%p: !llvm.ptr<3>) {
  // expected-error @+1 {{loads 3 matrices; expects 1, 2 or 4}}
  %0 = nvvm.ldmatrix %p {num = 3 : i32, layout = #nvvm.mma_layout<row>} : (!llvm.ptr<3>) -> i32
  llvm.return
}

// -----

llvm.func @accumulator(%d: i64, %s: !llvm.struct<(f32, f32)>) {
  // expected-error @+1 {{an accumulator of 64x8 has 4 registers, not 2}}
  %0 = nvvm.wgmma.mma_async %d, %d, <m = 64, n = 8, k = 16>, D[%s, <one>], A[<bf16>, <one>, <row>], B[<bf16>, <one>, <col>] : !llvm.struct<(f32, f32)> -> !llvm.struct<(f32, f32)>
  llvm.return
}

// -----

llvm.func @own(%b: !llvm.ptr<3>) {
  // expected-error @+1 {{arrives at !llvm.ptr<3>; expects !llvm.ptr<7>, which nvvm.mapa gives}}
  nvvm.mbarrier.arrive %b : !llvm.ptr<3>
  llvm.return
}
