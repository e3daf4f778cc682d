"""Review by people: the samples of a dataset one after the other, and which of them somebody wants to see."""

from collections.abc import Mapping
from typing import Literal, Protocol

from pydantic import Field

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.samples import Decision, InstructionStyle, Sample, Split

Verdict = Literal["keep", "edit", "refuse"]
Wanted = Literal["undecided", "decided", "keep", "edit", "refuse"]


class ReviewFilter(Frozen):
    """Which samples to show; what is absent does not limit."""

    verdict: Wanted | None = None
    style: InstructionStyle | None = None
    split: Split | None = None
    text: str = ""
    """Must stand in the instruction (the decided one, too), the answer or the title; upper and lower case are the same."""


class Shown(Frozen):
    """A sample and where it stands."""

    sample: Sample
    split: Split


class ReviewPage(Frozen):
    """Some samples of the current version of a dataset, in its order."""

    dataset: str
    version: str
    shown: tuple[Shown, ...] = ()
    next: int | None = None
    """Where the next page begins; ``None`` if there is none."""
    total: int = 0
    """Samples of the dataset, whatever was asked for."""
    decided: dict[Verdict, int] = Field(default_factory=dict)
    """How many of them have which verdict."""


class ReviewSamples(Protocol):
    """Reads the samples of datasets, in bounded memory. Safe from several threads and while datasets are built anew.

    Raises :class:`StoreUnavailable` for a dataset that is there and cannot be read.
    """

    def datasets(self) -> list[str]:
        """Names of the datasets that have a current version, the one built last first."""
        ...

    def page(
        self, dataset: str, wanted: ReviewFilter, *, decisions: Mapping[str, Decision], after: int, limit: int
    ) -> ReviewPage | None:
        """At most ``limit`` samples from place ``after`` on; ``None`` if there is no such dataset."""
        ...

    def find(self, dataset: str, sample_id: str) -> Shown | None:
        """The sample of that id in the current version; ``None`` if there is none."""
        ...
