"""Candidates that are like one that is preferred to them."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from llm_engineering.dataset.near_duplicates import Alike, near_duplicates
from llm_engineering.dataset.refusals import Candidate, Reason, identity, refuse
from llm_engineering.domain.dataset_config import QualityConfig
from llm_engineering.domain.samples import Refusal, Sample


def repeats(keys: Sequence[Hashable]) -> Iterator[Alike]:
    """Keys that stand there already."""
    first: dict[Hashable, int] = {}
    for position, key in enumerate(keys):
        if first.setdefault(key, position) != position:
            yield Alike(position, first[key], 1.0)


def near(texts: Sequence[str], config: QualityConfig) -> Iterator[Alike]:
    """Texts that are nearly one that stands there already."""
    return near_duplicates(texts, threshold=config.near_duplicate, permutations=config.permutations)


def refuse_alike(ranked: Sequence[Candidate], reason: Reason, alike: Iterable[Alike]) -> dict[str, Refusal]:
    """The refusals of candidates that are like one before them, by id."""
    return {
        identity(ranked[position]): refuse(
            reason, ranked[position], f"like {identity(ranked[like])} ({similarity:.2f})"
        )
        for position, like, similarity in alike
    }


def refuse_answers(
    ranked: Sequence[Sample], reason: Reason, compare: Callable[[Sequence[str]], Iterable[Alike]]
) -> dict[str, Refusal]:
    """Compares answers once per passage, and refuses every sample of a passage that falls."""
    units: dict[Hashable, list[Sample]] = {}
    for sample in ranked:
        where = sample.provenance
        units.setdefault((where.document_id, where.start, where.end, sample.answer), []).append(sample)
    firsts = [members[0] for members in units.values()]
    fallen = refuse_alike(firsts, reason, compare([sample.answer for sample in firsts]))
    return {
        sample.id: refuse(reason, sample, fallen[members[0].id].detail)
        for members in units.values()
        if members[0].id in fallen
        for sample in members
    }
