// RUN: crosstile-opt %s --allow-unregistered-dialect | filecheck %s
// RUN: not crosstile-opt %s 2>&1 | filecheck %s --check-prefix=REFUSED

// REFUSED: opt_unregistered.mlir:8:7: error: unknown dialect 'toaster' of operation 'toaster.toast'

// CHECK:      %0 = "toaster.toast"() <{level = #toaster.dark}> : () -> !toaster.slice
// CHECK-NEXT: "toaster.eat"(%0) : (!toaster.slice) -> ()
%0 = "toaster.toast"() <{level = #toaster.dark}> : () -> !toaster.slice
"toaster.eat"(%0) : (!toaster.slice) -> ()
