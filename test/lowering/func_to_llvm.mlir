// RUN: crosstile-opt %s --convert-to-llvm | filecheck %s

// CHECK-LABEL: llvm.func internal @kernel(%m: !llvm.ptr {llvm.noalias, llvm.align = 64 : i64}, %m_1: i64, %n: i64)
// CHECK-SAME:      attributes {passthrough = ["noinline"]}
func.func private @kernel(%m: memref<?xf32> {llvm.noalias, llvm.align = 64 : i64}, %n: index)
    attributes {passthrough = ["noinline"]} {
  func.return
}

// An entry function also gets the form in which the host calls it: one pointer to words.

// CHECK-LABEL: llvm.func @main(%m: !llvm.ptr, %m_1: i64, %n: i64) -> i64
// CHECK-NEXT:    llvm.call @kernel(%m, %m_1, %n)
// CHECK-LABEL: llvm.func @main.entry(%words: !llvm.ptr) -> i32
// CHECK-NEXT:    %[[M:.*]] = llvm.load %words {alignment = 8 : i64} : !llvm.ptr -> !llvm.ptr
// CHECK:         llvm.getelementptr %words[2]
// CHECK-NEXT:    %[[N:.*]] = llvm.load
// CHECK-NEXT:    %[[STATUS:.*]] = llvm.call @main(%[[M]], %{{.*}}, %[[N]])
// CHECK-NEXT:    %[[NARROW:.*]] = llvm.trunc %[[STATUS]] : i64 to i32
// CHECK-NEXT:    llvm.return %[[NARROW]] : i32
func.func @main(%m: memref<?xf32>, %n: index) -> index attributes {crosstile.entry} {
  func.call @kernel(%m, %n) : (memref<?xf32>, index) -> ()
  func.return %n : index
}

// Several results travel in a struct.

// CHECK-LABEL: llvm.func @two(%x: f32, %y: i32) -> !llvm.struct<(f32, i32)>
// CHECK:         llvm.insertvalue %x, %{{.*}}[0]
// CHECK-NEXT:    llvm.insertvalue %y, %{{.*}}[1]
func.func @two(%x: f32, %y: i32) -> (f32, i32) {
  func.return %x, %y : f32, i32
}

// CHECK-LABEL: llvm.func @use
// CHECK:         %[[BOTH:.*]] = llvm.call @two(%x, %y)
// CHECK:         %b = llvm.extractvalue %[[BOTH]][1]
func.func @use(%x: f32, %y: i32) -> i32 {
  %a, %b = func.call @two(%x, %y) : (f32, i32) -> (f32, i32)
  func.return %b : i32
}

// A function that is called as one of the C library's gets another symbol: calls of the library's must not reach it.

// CHECK-LABEL: llvm.func internal @crosstile.exp
// CHECK:         llvm.call @exp(
func.func private @exp(%x : f64) -> f64 {
  %y = math.exp %x : f64
  func.return %y : f64
}
// CHECK-LABEL: llvm.func @calls_it
// CHECK:         llvm.call @crosstile.exp(
func.func @calls_it(%x : f64) -> f64 {
  %y = func.call @exp(%x) : (f64) -> f64
  func.return %y : f64
}
