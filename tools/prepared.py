"""Functions whose weights are bound: laid out once, as the kernels read them, and kept from call to call.

    f = crosstile.compile("mlp.mlir")              # func.func @main(%x : ..., %w : ... {nn.weight})
    g = f.bind(w=weights)                          # compiled for packed weights, which are packed here
    y = g(x)
    weights += step
    g.pack()                                       # the arrays changed: pack them again; calls see it from here on

A call uses what was packed last, whatever is written to the arrays later; ``g.pack(w=other)`` binds another array.
"""

from __future__ import annotations

from collections.abc import Mapping

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.signature import HostSignature
from crosstile.targets.x86.quick_call import quick_call
from crosstile.tools.api import CompiledFunction
from crosstile.tools.compiled import Compiled


def check_weights(signature: HostSignature, given: Mapping[str, object]) -> None:
    """A CrosstileError unless ``given`` names exactly the program's weights."""
    known = ", ".join(f"'{name}'" for name in signature.weights) or "none"
    for name in given:
        if name not in signature.weights:
            raise CrosstileError(
                f"@{signature.name} has no weight '{name}': arguments marked {{nn.weight}} are {known}"
            )
    if missing := [f"'{name}'" for name in signature.weights if name not in given]:
        raise CrosstileError(
            f"@{signature.name}: weights are bound together; {', '.join(missing)} of {known} "
            f"{'is' if len(missing) == 1 else 'are'} missing"
        )


class PreparedFunction(CompiledFunction):
    """A compiled function of the arguments that are no weights; several Python threads may call it."""

    def __init__(self, compiled: Compiled, weights: Mapping[str, object]):
        super().__init__(compiled)
        self._unbound = compiled.function
        self._weights: dict[str, object] = {}
        check_weights(self._unbound.signature, weights)
        self.pack(**weights)

    @property
    def weights(self) -> dict[str, object]:
        """The arrays that are bound, by the names of the arguments."""
        return dict(self._weights)

    def pack(self, **weights: object) -> None:
        """Pack the bound arrays as they are now; those named here are bound in place of the ones before.

        Raises a CrosstileError for an array of the wrong type or shape, and for a name that is no weight; the function
        is then as it was. A call that runs meanwhile uses what was packed before.
        """
        merged = self._weights | weights
        signature = self._unbound.signature
        check_weights(signature, merged)
        self._function = self._unbound.bind({signature.weights[name]: array for name, array in merged.items()})
        self._quick = quick_call(self._function)
        self._weights = merged
