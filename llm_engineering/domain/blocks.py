"""What the blocks of a text are: the feature stage tells them apart, other stages are given them."""

from enum import StrEnum


class BlockKind(StrEnum):
    """What a block is; decides how it is cleaned, normalised and where it may be broken."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    ITEM = "item"
    """The first paragraph of a list item."""
    TABLE = "table"
    CODE = "code"
    RULE = "rule"
    REFERENCE = "reference"
    """Definitions of link targets, ``[name]: target``."""
