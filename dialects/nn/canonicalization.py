"""Canonical forms of ``nn`` operations that only move elements: the rewrites that ``canonicalize`` applies to them.

nn.transpose of nn.transpose    one nn.transpose; the identity permutation vanishes
nn.reshape of nn.reshape        one nn.reshape; to the operand's own shape it vanishes
nn.broadcast to the same type   vanishes
nn.cast to the same type        vanishes; of a widening nn.cast back to the first type, too

Nothing here changes a value: rewrites of arithmetic are up to passes, which read ``fastmath``. Each class is the trait
that hands the patterns to one operation; patterns are imported when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdsl.traits import HasCanonicalizationPatternsTrait

if TYPE_CHECKING:
    from xdsl.pattern_rewriter import RewritePattern


class TransposePatterns(HasCanonicalizationPatternsTrait):
    """Patterns of ``nn.transpose``."""

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        """Merge two permutations, drop the identity."""
        from crosstile.dialects.nn.canonicalization_patterns import DropTranspose, MergeTransposes

        return MergeTransposes(), DropTranspose()


class ReshapePatterns(HasCanonicalizationPatternsTrait):
    """Patterns of ``nn.reshape``."""

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        """Skip a reshape in between, drop one that changes nothing."""
        from crosstile.dialects.nn.canonicalization_patterns import DropReshape, MergeReshapes

        return MergeReshapes(), DropReshape()


class BroadcastPatterns(HasCanonicalizationPatternsTrait):
    """Patterns of ``nn.broadcast``."""

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        """Drop one that changes nothing."""
        from crosstile.dialects.nn.canonicalization_patterns import DropBroadcast

        return (DropBroadcast(),)


class CastPatterns(HasCanonicalizationPatternsTrait):
    """Patterns of ``nn.cast``."""

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        """Drop one that changes nothing, and a widening one with its inverse."""
        from crosstile.dialects.nn.canonicalization_patterns import DropCast

        return (DropCast(),)
