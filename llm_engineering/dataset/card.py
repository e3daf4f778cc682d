"""The dataset card: what a dataset holds, where it comes from, what was refused, and what the audit found."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field

from llm_engineering.dataset.audit import Audit
from llm_engineering.dataset.bias import Bias, bias_of
from llm_engineering.dataset.words import count_words
from llm_engineering.domain import chat
from llm_engineering.domain.dataset_config import AuthorTerms, DatasetConfig
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.samples import Origin, Pair, Refusal, Sample, Split

Samples = Mapping[Split, Sequence[Sample]]
Pairs = Mapping[Split, Sequence[Pair]]


class DocumentLine(Frozen):
    """One document of the dataset: which revision, on which side, and the spans that became answers."""

    id: str
    revision: int
    url: str
    title: str
    author: str
    kind: str
    split: Split
    like: str | None = None
    """The earlier document whose side it took because it is nearly the same."""
    spans: tuple[tuple[int, int], ...] = ()
    pairs: int = 0


class AuthorLine(Frozen):
    """One author: what was agreed, and how much of the dataset is theirs; nothing of one who does not agree."""

    name: str
    licence: str
    consent: bool | None
    documents: int
    samples: int
    words: int
    """Of the author's own text in answers."""


class Card(Frozen):
    """Everything that is to be known about one version of a dataset; ``card.json``. Holds no time: same build, same bytes."""

    name: str
    version: str = ""
    recipe: str
    """Digest of the configuration, the wording of the prompts and the instruction writer."""
    configuration: dict[str, object]
    prompt_version: int
    authors: tuple[AuthorLine, ...]
    samples: dict[str, int]
    """By split."""
    pairs: dict[str, int]
    styles: dict[str, int]
    origins: dict[str, int]
    written_by: dict[str, int]
    kinds: dict[str, int]
    languages: dict[str, int]
    pair_sources: dict[str, int]
    chosen_longer: float | None = None
    """Share of pairs whose chosen answer is the longer one, equal ones by half; near one half, length tells nothing."""
    formats: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """By kind of markup the share of chosen and of rejected answers that have it; near each other, format tells nothing."""
    bias_before: Bias | None = None
    """Of the pairs against models' answers, or of people's votes if there are no others: before lengths were matched."""
    passages: int
    refusals: dict[str, int]
    masked: dict[str, int]
    decisions: dict[str, int] = Field(default_factory=dict)
    """What reviewers decided and this build followed, by verdict."""
    decisions_unmatched: int = 0
    """Decisions about its documents that match none of its samples: the text, or its instruction, is another one by now."""
    audit: Audit
    documents: tuple[DocumentLine, ...]

    @property
    def sides(self) -> dict[str, Split]:
        """The side of every document: what the next build keeps."""
        return {document.id: document.split for document in self.documents}


def recipe_of(config: DatasetConfig, *, writer: str) -> str:
    """Changes exactly when the same warehouse could give another dataset: numbers, wording of prompts, instruction writer."""
    parts = {"config": config.model_dump(mode="json"), "prompts": chat.VERSION, "writer": writer}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def card_of(
    samples: Samples,
    pairs: Pairs,
    *,
    config: DatasetConfig,
    writer: str,
    terms: Mapping[str, AuthorTerms],
    documents: Sequence[DocumentLine],
    passages: int,
    refusals: Iterable[Refusal],
    masked: Mapping[str, int],
    decisions: Mapping[str, int],
    decisions_unmatched: int,
    audit: Audit,
    bias_before: Bias | None = None,
) -> Card:
    """The card of a build; its version is the digest of samples, pairs and of the card itself."""
    everything = [sample for split in Split for sample in samples.get(split, ())]
    paired = [pair for split in Split for pair in pairs.get(split, ())]
    bias = bias_of(paired)
    card = Card(
        name=config.name,
        recipe=recipe_of(config, writer=writer),
        configuration=config.model_dump(mode="json"),
        prompt_version=chat.VERSION,
        authors=_authors(everything, documents, terms),
        samples={split.value: len(samples.get(split, ())) for split in Split},
        pairs={split.value: len(pairs.get(split, ())) for split in Split},
        styles=_counts(sample.style.value for sample in everything),
        origins=_counts(sample.origin.value for sample in everything),
        written_by=_counts(sample.written_by for sample in everything),
        kinds=_counts(sample.provenance.kind.value for sample in everything),
        languages=_counts(sample.provenance.language or "not stated" for sample in everything),
        pair_sources=_counts(pair.source.value for pair in paired),
        chosen_longer=round(bias.chosen_longer, 3) if paired else None,
        formats={kind: (round(chosen, 3), round(rejected, 3)) for kind, (chosen, rejected) in bias.formats.items()},
        bias_before=bias_before if paired else None,
        passages=passages,
        refusals=_counts(refusal.reason for refusal in refusals),
        masked=dict(sorted(masked.items())),
        decisions=dict(sorted(decisions.items())),
        decisions_unmatched=decisions_unmatched,
        audit=audit,
        documents=tuple(sorted(documents, key=lambda line: line.id)),
    )
    return card.model_copy(update={"version": _digest(card, everything, paired)})


def _digest(card: Card, samples: Iterable[Sample], pairs: Iterable[Pair]) -> str:
    digest = hashlib.sha256()
    for entry in (card, *samples, *pairs):
        digest.update(entry.model_dump_json().encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:12]


def _counts(words: Iterable[str]) -> dict[str, int]:
    """Most frequent first; equal ones by name."""
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))


def _authors(
    samples: Sequence[Sample], documents: Sequence[DocumentLine], terms: Mapping[str, AuthorTerms]
) -> tuple[AuthorLine, ...]:
    lines = []
    for name, agreed in sorted(terms.items()):
        own = [sample for sample in samples if sample.provenance.author == name]
        answers = {
            (sample.provenance.document_id, sample.provenance.start): count_words(sample.answer)
            for sample in own
            if sample.origin is Origin.AUTHOR
        }
        lines.append(
            AuthorLine(
                name=name,
                licence=agreed.licence,
                consent=agreed.consent,
                documents=sum(document.author == name for document in documents),
                samples=len(own),
                words=sum(answers.values()),
            )
        )
    return tuple(lines)
