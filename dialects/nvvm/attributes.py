"""Attributes of the ``nvvm`` dialect, upstream's: words in angle brackets, and the shape of a matrix instruction.

#nvvm.mma_layout<row>    #nvvm.mma_type<bf16>    #nvvm.shape<m = 16, n = 8, k = 16>
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, TypeVar

from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

WordT = TypeVar("WordT", bound="Word")


class Word(Data[str]):
    """One of a few words, ``<row>``; ``words`` are the legal ones."""

    words: ClassVar[tuple[str, ...]]

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> str:
        """Parse ``<row>``."""
        with parser.in_angle_brackets():
            return parser.parse_identifier(f" for #{cls.name}")

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<row>``."""
        printer.print_string(f"<{self.data}>")

    def verify(self) -> None:
        """The word is a legal one."""
        if self.data not in self.words:
            raise VerifyException(f"#{self.name}<{self.data}> is unknown; legal are {', '.join(self.words)}")


@irdl_attr_definition
class MmaLayoutAttr(Word):
    """``#nvvm.mma_layout<row>``: which dimension of a matrix is contiguous."""

    name = "nvvm.mma_layout"
    words = ("row", "col")


@irdl_attr_definition
class MmaTypeAttr(Word):
    """``#nvvm.mma_type<bf16>``: the type of the factors of ``nvvm.mma.sync``."""

    name = "nvvm.mma_type"
    words = ("f16", "f32", "tf32", "bf16", "f64", "s8", "u8", "s32", "e4m3", "e5m2")


@irdl_attr_definition
class WgmmaTypeAttr(Word):
    """``#nvvm.wgmma_type<bf16>``: a type of ``nvvm.wgmma.mma_async``."""

    name = "nvvm.wgmma_type"
    words = ("f16", "tf32", "u8", "s8", "bf16", "e4m3", "e5m2", "f32", "s32")


@irdl_attr_definition
class ScaleOutAttr(Word):
    """``#nvvm.wgmma_scale_out<one>``: whether the accumulator is added (``one``) or overwritten (``zero``)."""

    name = "nvvm.wgmma_scale_out"
    words = ("zero", "one")


@irdl_attr_definition
class ScaleInAttr(Word):
    """``#nvvm.wgmma_scale_in<one>``: whether a factor is negated."""

    name = "nvvm.wgmma_scale_in"
    words = ("one", "neg")


@irdl_attr_definition
class CacheAttr(Word):
    """``#nvvm.load_cache_modifier<cg>``: which caches an asynchronous copy goes through (``cg``: L2 only)."""

    name = "nvvm.load_cache_modifier"
    words = ("ca", "cg")


@irdl_attr_definition
class ShuffleKindAttr(Word):
    """``#nvvm.shfl_kind<bfly>``: how a shuffle finds the lane it reads."""

    name = "nvvm.shfl_kind"
    words = ("bfly", "up", "down", "idx")


@irdl_attr_definition
class ProxyKindAttr(Word):
    """``#nvvm.proxy_kind<async.shared>``: whose accesses a proxy fence orders with those of the program."""

    name = "nvvm.proxy_kind"
    words = ("async.shared",)


@irdl_attr_definition
class SharedSpaceAttr(Word):
    """``#nvvm.shared_space<cta>``: the shared memory of a block or of its cluster."""

    name = "nvvm.shared_space"
    words = ("cta", "cluster")


@irdl_attr_definition
class RegisterActionAttr(Word):
    """``#nvvm.action<increase>``: whether a warpgroup takes or gives registers."""

    name = "nvvm.action"
    words = ("increase", "decrease")


@irdl_attr_definition
class PermuteModeAttr(Word):
    """``#nvvm.permute_mode<default>``: how ``nvvm.prmt`` reads its selector: four numbers of bytes."""

    name = "nvvm.permute_mode"
    words = ("default",)


class MmaShape(NamedTuple):
    """The sizes of one matrix instruction."""

    m: int
    n: int
    k: int


@irdl_attr_definition
class ShapeAttr(Data[MmaShape]):
    """``#nvvm.shape<m = 16, n = 8, k = 16>``."""

    name = "nvvm.shape"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> MmaShape:
        """Parse ``<m = 16, n = 8, k = 16>``."""
        sizes: list[int] = []
        with parser.in_angle_brackets():
            for name in "mnk":
                if sizes:
                    parser.parse_punctuation(",")
                parser.parse_keyword(name)
                parser.parse_punctuation("=")
                sizes.append(parser.parse_integer(allow_negative=False))
        return MmaShape(*sizes)

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<m = 16, n = 8, k = 16>``."""
        m, n, k = self.data
        printer.print_string(f"<m = {m}, n = {n}, k = {k}>")


def parse_elided(parser: Parser, kind: type[WordT]) -> WordT:
    """Parse ``<row>`` or ``#nvvm.mma_layout<row>``, which mean the same where the kind is known."""
    position = parser.pos
    attribute = parser.parse_optional_attribute()
    if attribute is None:
        return kind(kind.parse_parameter(parser))
    if not isinstance(attribute, kind):
        parser.raise_error(f"expected #{kind.name}<...>, got {attribute}", position, parser.pos)
    return attribute
