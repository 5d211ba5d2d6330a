"""The verifier: xDSL's and the order of definitions, with the failing operation's name and location in the error.

xDSL raises a bare ``VerifyException`` and attaches the whole module as a note; the operation is found in the
exception's traceback, which costs nothing while modules are correct.
"""

from __future__ import annotations

import re
from types import TracebackType

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Operation, Region
from xdsl.utils.exceptions import DiagnosticException

from crosstile.ir.diagnostics import CrosstileError, Note, op_error
from crosstile.ir.dominance import verify_dominance

_VERIFY_CODES = {Operation.verify.__code__, Block.verify.__code__, Region.verify.__code__}


def verify_module(module: Operation) -> None:
    """Verify ``module`` and everything in it; raises a located :class:`CrosstileError` for the first failure."""
    try:
        module.verify()
        verify_dominance(module)
    except CrosstileError:
        raise
    except (DiagnosticException, ValueError) as error:
        op = _verified_op(error.__traceback__) or module
        message = str(error)
        text = message if message.startswith(f"'{op.name}' ") else f"'{op.name}' op {message}"
        raise _redefinition(op, message) or op_error(op, text) from error
    except RecursionError as error:
        raise CrosstileError("the program is nested too deeply to verify", module.location) from error
    except Exception as error:
        op = _verified_op(error.__traceback__) or module
        if type(error) is Exception:  # all that some of xDSL's verifiers say
            raise CrosstileError(f"'{op.name}' op {error}", op.location) from error
        message = f"'{op.name}' op internal error in its verifier: {type(error).__name__}: {error}"
        raise CrosstileError(message, op.location) from error


def _redefinition(table: Operation, message: str) -> CrosstileError | None:
    """For a symbol defined twice, an error at its second definition; xDSL reports the whole symbol table."""
    found = re.fullmatch(r'Redefinition of symbol "(.+)"', message)
    if found is None:
        return None
    name = StringAttr(found.group(1))
    ops = [op for region in table.regions for block in region.blocks for op in block.ops]
    first, second, *_ = [op for op in ops if name in (op.properties.get("sym_name"), op.attributes.get("sym_name"))]
    note = Note("it is defined here before", first.location)
    return op_error(second, f"'{second.name}' op symbol @{name.data} is defined twice", note)


def _verified_op(traceback: TracebackType | None) -> Operation | None:
    """The operation whose verification the innermost frame belongs to."""
    found: Operation | None = None
    while traceback is not None:
        if traceback.tb_frame.f_code in _VERIFY_CODES:
            node = traceback.tb_frame.f_locals["self"]
            op = node if isinstance(node, Operation) else node.parent_op()
            found = op if op is not None else found
        traceback = traceback.tb_next
    return found
