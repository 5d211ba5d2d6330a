// RUN: crosstile-opt %s --split-input-file --verify-diagnostics

func.func @select(%c: vector<8xi1>, %x: vector<4xf32>) {
  // expected-error @+1 {{'arith.select' of vector<4xf32> takes a condition of type i1 or vector<4xi1>, not vector<8xi1>}}
  %0 = arith.select %c, %x, %x : vector<8xi1>, vector<4xf32>
  func.return
}

// -----

func.func @compare(%x: vector<4xf32>) {
  // expected-error @+1 {{'arith.cmpf' of vector<4xf32> gives vector<4xi1>, not i1}}
  %0 = "arith.cmpf"(%x, %x) <{predicate = 4 : i64, fastmath = #arith.fastmath<none>}> : (vector<4xf32>, vector<4xf32>) -> i1
  func.return
}

// -----

func.func @convert(%x: vector<4xi32>) {
  // expected-error @+1 {{works elementwise, but operand type vector<4xi32> and result type f32 differ}}
  %0 = arith.sitofp %x : vector<4xi32> to f32
  func.return
}

// -----

func.func @narrow(%x: i32) {
  // expected-error @+1 {{'arith.trunci' narrows, but i32 is no wider than i64}}
  %0 = arith.trunci %x : i32 to i64
  func.return
}

// -----

func.func @widen(%x: i32) {
  // expected-error @+1 {{'arith.extsi' widens, but i16 is no wider than i32}}
  %0 = arith.extsi %x : i32 to i16
  func.return
}

// -----

func.func @index(%x: i32) {
  // expected-error @+1 {{converts between index and an integer type, found i32 and i64}}
  %0 = arith.index_cast %x : i32 to i64
  func.return
}
