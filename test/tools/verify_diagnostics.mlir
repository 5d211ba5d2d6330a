// RUN: crosstile-opt --split-input-file --verify-diagnostics %s

// Expectations stand on the line itself, a distance away, or above and below runs of other expectations.

func.func @same_line(%a: i32, %b: i64) {
  %c = arith.addi %a, %b : i32 // expected-error {{operand is used with type i32}}
  func.return
}

// -----

func.func @distance(%a: i32) {
  // expected-error @+2 {{use of undefined value %nothing}}

  %c = arith.addi %nothing, %a : i32
  func.return
}

// -----

func.func @below(%a: i32) -> i32 {
  // expected-error @below {{operand #0 does not dominate this use}}
  %b = arith.addi %c, %a : i32
  %c = arith.addi %a, %a : i32
  // expected-note @above {{the operand is defined here}}
  func.return %b : i32
}

// -----

// expected-error-re @+1 {{unknown dialect '{{[a-z]+}}' of operation}}
nonsense.op

// -----

func.func @fine() {
  func.return
}
