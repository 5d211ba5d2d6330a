// RUN: crosstile-opt %s --convert-to-llvm --split-input-file --verify-diagnostics

func.func @loop(%n: index) {
  // expected-error @+2 {{convert-to-llvm: 'scf.for': no rule lowers this operation}}
  // expected-note @+1 {{rules exist for operations of amx, arith, builtin, cf, func, llvm, math, memref, vector}}
  scf.for %i = %n to %n step %n {
  }
  func.return
}

// -----

// expected-error @+1 {{a vector of type vector<4x4xf32> has no LLVM type; vectors must have rank 1}}
func.func @matrix(%x: vector<4x4xf32>) {
  func.return
}

// -----

func.func @heap() {
  // expected-error @+1 {{there is no heap at this level; run plan-buffers}}
  %m = memref.alloc() : memref<4xf32>
  func.return
}

// -----

func.func @columns(%m: memref<?x?xf32, strided<[1, ?]>>, %i: index) {
  // expected-error @+1 {{vectors are read and written along a dimension of stride 1}}
  %v = vector.load %m[%i, %i] : memref<?x?xf32, strided<[1, ?]>>, vector<4xf32>
  func.return
}

// -----

func.func @mask_in_memory(%m: memref<?xi1>, %i: index) {
  // expected-error @+1 {{vectors of i1 have no layout in memory}}
  %v = vector.load %m[%i] : memref<?xi1>, vector<8xi1>
  func.return
}

// -----

func.func @stack_in_a_loop(%c: i1) {
  cf.br ^loop
^loop:
  // expected-error @+1 {{must stand in a function's first block}}
  %m = memref.alloca() : memref<16xf32>
  cf.cond_br %c, ^loop, ^exit
^exit:
  func.return
}

// -----

func.func @no_such_function(%x: bf16) -> bf16 {
  // expected-error @+1 {{there is no arithmetic of bf16 here: run arith-emulate-unsupported-floats first}}
  %r = math.tanh %x : bf16
  func.return %r : bf16
}

// -----

// expected-error @+1 {{an entry function takes memrefs and index values only, not f32}}
func.func @entry(%x: f32) attributes {crosstile.entry} {
  func.return
}

// -----

func.func @blocks_out_of_order(%x: i32) -> i32 {
  cf.br ^first
^second:
  // expected-error @+2 {{'func.return': uses a value of a block that stands further down}}
  // expected-note @+1 {{put blocks after those they depend on}}
  func.return %y : i32
^first:
  %y = arith.addi %x, %x : i32
  cf.br ^second
}
