"""The settings of data: how many examples, how they are varied, how a text is read. As `enas.configs`, which has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from enas.configs import InputKind, require

TextLevel = Literal["char", "word"]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How many examples a search sees, and how large images are."""

    num_train: int | None = None
    """Training images, the first of each class in proportion, or tokens of a text, the first; None for all that validation
    leaves."""
    num_valid: int | None = None
    """Validation images, or tokens of a text, taken from the training ones; None for the data set's own number."""
    image_size: int | None = None
    """Side in pixels of the squares that images are cropped and resized to; None for images as they are, and for texts."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("num_train", "num_valid", "image_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "at least 1", value)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images are varied; validation and test images never are."""

    pad: int | None = None
    """Zero pixels added on each side before a random crop to the old size; None for the data set's habit."""
    flip: bool | None = None
    """Whether images are mirrored at random; None for the data set's habit."""
    cutout: int = 0
    """Side in pixels of the square that is blanked at random; 0 for none."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.pad is None or self.pad >= 0, "pad", "at least 0", self.pad)
        require(self.cutout >= 0, "cutout", "at least 0", self.cutout)

    def require_kind(self, kind: InputKind) -> None:
        """Refuse changes where the examples are no images. Raises ValueError."""
        for name in ("pad", "flip", "cutout"):
            value, default = getattr(self, name), getattr(type(self), name)
            require(kind == "images" or value == default, f"augment.{name}", f"{default} with a text", value)


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How a text is read; nothing of it matters for images. Defaults are those of the authors' `enas_lm` on the Penn Treebank."""

    level: TextLevel = "word"
    """What a token is: a word between blanks, or a character."""
    vocabulary: int = 10_000
    """Most different tokens; the rarest of the training text beyond it become <unk>, as do all that it has once only. The Penn
    Treebank has its own 10,000, whatever is given here. Perplexities with other vocabularies or another --split.num-train do not
    compare."""
    bptt: int = 35
    """Tokens that back-propagation goes through: the length of a sequence."""
    random_lengths: bool = True
    """Whether training sequences vary in length around bptt, and the learning rate with them (Merity et al. 2018)."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        levels = get_args(TextLevel)
        require(self.level in levels, "level", " or ".join(levels), repr(self.level))
        require(self.vocabulary >= 2, "vocabulary", "at least 2", self.vocabulary)
        require(self.bptt >= 1, "bptt", "at least 1", self.bptt)
