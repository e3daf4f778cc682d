"""The sides of documents outlive the versions of a dataset: ``<name>/sides.json``, ids and sides alone, no text."""

from collections.abc import Collection
from pathlib import Path

from pydantic import Field, ValidationError

from llm_engineering.dataset.card import Card
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import DatasetError
from llm_engineering.domain.samples import Split

SIDES = "sides.json"


class KeptSides(Frozen):
    """On which side documents were put, and by which shares."""

    split: dict[str, object] = Field(default_factory=dict)
    """The part ``split`` of the configuration."""
    sides: dict[str, Split] = Field(default_factory=dict)

    @classmethod
    def of(cls, card: Card) -> "KeptSides":
        """Those of one version."""
        split = card.configuration.get("split")
        return cls(split=split if isinstance(split, dict) else {}, sides=card.sides)


def read_sides(home: Path) -> KeptSides | None:
    """The sides kept in a dataset's folder, ``None`` if there are none.

    Raises :class:`DatasetError` for a file that cannot be read: to go on without it could move documents across the wall.
    """
    file = home / SIDES
    try:
        return KeptSides.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it does not name documents and their sides"
        raise DatasetError(
            f"{file} cannot be read: {reason}",
            hint="Bring it back from a copy. Without it (remove it) documents may change sides.",
        ) from error


def keep_sides(home: Path, card: Card) -> None:
    """Add the sides of a version to those that are kept; other shares begin anew. The file is replaced in one step."""
    made, before = KeptSides.of(card), read_sides(home)
    if before is not None and before.split == made.split:
        made = made.model_copy(update={"sides": {**before.sides, **made.sides}})
    if made != before:
        _write(home, made)


def forget_sides(home: Path, document_ids: Collection[str]) -> None:
    """Take withdrawn documents out of the sides that are kept: they never come back."""
    before = read_sides(home)
    if before is not None and not before.sides.keys().isdisjoint(document_ids):
        left = {identity: side for identity, side in before.sides.items() if identity not in set(document_ids)}
        _write(home, before.model_copy(update={"sides": left}))


def _write(home: Path, kept: KeptSides) -> None:
    part = home / f".{SIDES}.part"
    part.write_text(kept.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(home / SIDES)
