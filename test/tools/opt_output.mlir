// RUN: crosstile-opt %s -o %t && filecheck %s < %t
// RUN: not crosstile-opt %s --no-such-flag -o %t 2>&1 | filecheck %s --check-prefix=ERROR
// RUN: filecheck %s < %t
// RUN: crosstile-opt - -o - < %s | filecheck %s
// RUN: cat %s | crosstile-opt | filecheck %s

// ERROR: crosstile-opt: error: unknown flag '--no-such-flag'
// CHECK: func.func @f
func.func @f() {
  func.return
}
