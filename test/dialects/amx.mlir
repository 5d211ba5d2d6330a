// RUN: crosstile-opt %s | filecheck %s
// RUN: crosstile-opt %s --convert-to-llvm | filecheck %s --check-prefix LLVM

// CHECK-LABEL: @multiply_floats
// CHECK: amx.tile_load %a[%i], %s : memref<?xbf16> into !amx.tile<16x32xbf16>
// CHECK: amx.tile_load %b[%i, %i] {nontemporal} : memref<?x?xbf16> into !amx.tile<16x32xbf16>
// CHECK: amx.tile_mulf %x, %y, %z : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
// CHECK: amx.tile_store %c[%i, %i], %r, %s : memref<16x16xf32>, !amx.tile<16x16xf32>
// LLVM-LABEL: @multiply_floats
// LLVM: "llvm.x86.tilezero.internal"(%{{.*}}, %{{.*}}) : (i16, i16) -> !llvm.x86_amx
// LLVM: %[[BYTES:.*]] = llvm.mul %s, %{{.*}} : i64
// LLVM: "llvm.x86.tileloadd64.internal"(%{{.*}}, %{{.*}}, %{{.*}}, %[[BYTES]])
// LLVM: "llvm.x86.tileloaddt164.internal"
// LLVM: "llvm.x86.tdpbf16ps.internal"(%{{.*}}, %{{.*}}, %{{.*}}, %z, %x, %y)
// LLVM: "llvm.x86.tilestored64.internal"
func.func @multiply_floats(
    %a: memref<?xbf16>, %b: memref<?x?xbf16>, %c: memref<16x16xf32>, %i: index, %s: index) {
  %z = amx.tile_zero : !amx.tile<16x16xf32>
  %x = amx.tile_load %a[%i], %s : memref<?xbf16> into !amx.tile<16x32xbf16>
  %y = amx.tile_load %b[%i, %i] {nontemporal} : memref<?x?xbf16> into !amx.tile<16x32xbf16>
  %r = amx.tile_mulf %x, %y, %z : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
  amx.tile_store %c[%i, %i], %r, %s : memref<16x16xf32>, !amx.tile<16x16xf32>
  func.return
}

// CHECK-LABEL: @multiply_bytes
// CHECK: amx.tile_muli %x zext, %x, %z : !amx.tile<16x64xi8>, !amx.tile<16x64xi8>, !amx.tile<16x16xi32>
// CHECK: amx.tile_muli %x, %x zext, %p :
// LLVM-LABEL: @multiply_bytes
// LLVM: "llvm.x86.tdpbusd.internal"
// LLVM: "llvm.x86.tdpbsud.internal"
func.func @multiply_bytes(%a: memref<16x64xi8>, %c: memref<16x16xi32>) {
  %o = arith.constant 0 : index
  %x = amx.tile_load %a[%o, %o] : memref<16x64xi8> into !amx.tile<16x64xi8>
  %z = amx.tile_load %c[%o, %o] : memref<16x16xi32> into !amx.tile<16x16xi32>
  %p = amx.tile_muli %x zext, %x, %z : !amx.tile<16x64xi8>, !amx.tile<16x64xi8>, !amx.tile<16x16xi32>
  %q = amx.tile_muli %x, %x zext, %p : !amx.tile<16x64xi8>, !amx.tile<16x64xi8>, !amx.tile<16x16xi32>
  amx.tile_store %c[%o, %o], %q : memref<16x16xi32>, !amx.tile<16x16xi32>
  func.return
}
