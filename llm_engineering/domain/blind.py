"""Blind comparison by people: a twin's text and the author's for one task, shown in an order that tells nothing."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from pydantic import Field

from llm_engineering.domain.entities import Frozen, Moment, now
from llm_engineering.domain.samples import request_key

Side = Literal["twin", "author"]


class BlindPair(Frozen):
    """Two texts for one task, cut to one length."""

    id: str = Field(pattern=r"^[!-~]{1,128}$")
    model: str
    """Name of the twin."""
    weights: str = ""
    """Digest of its weights: a name may come to mean others."""
    author: str
    """Name of the person who wrote the other text."""
    task: str
    twin: str
    written: str
    """The author's text."""
    seed: int
    document_ids: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        model: str,
        author: str,
        task: str,
        twin: str,
        written: str,
        seed: int,
        weights: str = "",
        document_ids: Sequence[str] = (),
    ) -> "BlindPair":
        """The pair of these texts; the same ones of the same weights have the same id."""
        return cls(
            id=request_key("blind", model, weights, author, task, twin, written, seed)[:32],
            model=model,
            weights=weights,
            author=author,
            task=task,
            twin=twin,
            written=written,
            seed=seed,
            document_ids=tuple(document_ids),
        )

    @property
    def order(self) -> tuple[Side, Side]:
        """Whose text stands first: even chances, the same each time for the same seed."""
        digest = hashlib.sha256(f"{self.seed} {self.id}".encode()).digest()
        return ("twin", "author") if digest[0] % 2 else ("author", "twin")

    @property
    def texts(self) -> tuple[str, str]:
        """The texts in that order."""
        first, _ = self.order
        return (self.twin, self.written) if first == "twin" else (self.written, self.twin)

    def meant(self, place: Literal["first", "second", "neither"]) -> Literal["twin", "author", "neither"]:
        """Whose text is chosen by choosing that place."""
        return "neither" if place == "neither" else self.order[0 if place == "first" else 1]


class BlindChoice(Frozen):
    """Whose text a person took for the author's. A later choice of one person about one pair takes the first one's place."""

    pair_id: str = Field(pattern=r"^[!-~]{1,128}$")
    model: str
    judge: str
    """Who chose: a digest of the API key, or this machine."""
    taken: Literal["twin", "author", "neither"]
    document_ids: tuple[str, ...] = ()
    """Those of the pair: whoever chose has seen the author's text, and is shown no other pair about them."""
    at: Moment = Field(default_factory=now)


class BlindPairs(Protocol):
    """Keeps pairs and choices. Safe from several threads; raises :class:`StoreUnavailable` where it cannot be read or written."""

    def replace(self, model: str, pairs: Sequence[BlindPair]) -> None:
        """Show these pairs for a model from now on; choices about earlier ones stay."""
        ...

    def pairs(self) -> list[BlindPair]:
        """All pairs that are shown, by model and then in their order; none of a retired or erased version."""
        ...

    def choose(self, choice: BlindChoice) -> None:
        """Keep a choice (durable on return)."""
        ...

    def choices(self) -> list[BlindChoice]:
        """The standing choices, oldest first."""
        ...

    def forget(self, document_ids: Iterable[str]) -> int:
        """Erase every pair that holds words of these documents; returns how many."""
        ...
