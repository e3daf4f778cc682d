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
from llm_engineering.domain.dataset_config import DatasetConfig
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
    """One author: what was agreed, and how much of the dataset is theirs."""

    name: str
    licence: str
    consent: bool
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
        authors=_authors(everything, documents, config),
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
    samples: Sequence[Sample], documents: Sequence[DocumentLine], config: DatasetConfig
) -> tuple[AuthorLine, ...]:
    lines = []
    for name in sorted({document.author for document in documents}):
        own = [sample for sample in samples if sample.provenance.author == name]
        terms = config.terms_of(name)
        answers = {
            (sample.provenance.document_id, sample.provenance.start): count_words(sample.answer)
            for sample in own
            if sample.origin is Origin.AUTHOR
        }
        lines.append(
            AuthorLine(
                name=name,
                licence=terms.licence,
                consent=terms.consent,
                documents=sum(document.author == name for document in documents),
                samples=len(own),
                words=sum(answers.values()),
            )
        )
    return tuple(lines)


def readme(card: Card) -> str:
    """The card for people, in the form that the Hugging Face Hub reads."""
    consent = {True: "yes", False: "not stated"}
    sources = Counter(document.url.split("/")[2] if "://" in document.url else "" for document in card.documents)
    lines = [
        *_front_matter(card),
        f"# {card.name}, version {card.version}",
        "",
        f"Instructions and answers of an LLM Twin. {_whose_words(card)} Each row names the document, revision and characters "
        "that its answer comes from.",
        "",
        "## Authors",
        "",
        *_table(
            ("author", "licence", "consent to training", "documents", "samples", "words"),
            [
                (
                    line.name,
                    line.licence or "not stated",
                    consent[line.consent],
                    line.documents,
                    line.samples,
                    line.words,
                )
                for line in card.authors
            ],
        ),
        "## Samples",
        "",
        *_table(
            ("split", "samples", "pairs", "documents"),
            [
                (
                    split.value,
                    card.samples[split.value],
                    card.pairs[split.value],
                    sum(document.split is split and bool(document.spans) for document in card.documents),
                )
                for split in Split
            ],
        ),
        *_list("Instruction styles", card.styles),
        *_list("Answers by", card.origins),
        *_list("Instructions written by", card.written_by),
        *_list("Kinds", card.kinds),
        *_list("Languages", card.languages),
        *_list("Rejected answers from", card.pair_sources),
        *_bias(card),
        *_list("Sources", dict(sorted(sources.items(), key=lambda item: (-item[1], item[0])))),
        "## Refused",
        "",
        f"{card.passages} passages were candidates. What did not become a sample, by reason:",
        "",
        *_table(("reason", "count"), card.refusals.items()),
        *_list("Masked", card.masked),
        *_list("Reviewed", card.decisions),
        *_unmatched(card.decisions_unmatched),
        "## Audit",
        "",
        "Every build is read again by code that shares nothing with the splitter, and fails if any of these is not 0.",
        "",
        *_table(
            ("what", "found"),
            [
                ("documents on two sides", card.audit.shared_documents),
                ("repeated instructions", card.audit.repeated_instructions),
                ("instructions on two sides", card.audit.instructions_across),
                ("pairs of equal answers", card.audit.chosen_rejected),
                *(
                    (f"{split} answers that share {length} words in a row with another side", count)
                    for split, overlap in card.audit.overlap.items()
                    for length, count in overlap.shared.items()
                ),
            ],
        ),
        "## Making it again",
        "",
        f"Recipe `{card.recipe}`, prompt wording {card.prompt_version}. `card.json` holds the configuration and, for every "
        "document, its revision, side and spans.",
        "",
    ]
    return "\n".join(lines)


def _unmatched(decisions: int) -> list[str]:
    return (
        [f"{decisions} further decisions of reviewers match no sample: text or instruction have changed.", ""]
        if decisions
        else []
    )


def _whose_words(card: Card) -> str:
    """What is verbatim and what is not."""
    masked = ", save for what is masked" if card.masked else ""
    own, rephrased = card.origins.get(Origin.AUTHOR, 0), card.origins.get(Origin.REPHRASED, 0)
    if not rephrased:
        return f"The answers are passages of the authors' own text, verbatim{masked}; the instructions were written for them."
    return (
        f"{own} answers are passages of the authors' own text, verbatim{masked}; their instructions were written for them. "
        f"{rephrased} answers are not the authors' words: a teacher model wrote them, and their instructions, about a passage."
    )


def _bias(card: Card) -> list[str]:
    """What tells chosen answers from rejected ones by their form; nothing without pairs."""
    if card.chosen_longer is None:
        return []
    before = card.bias_before
    was = f" ({before.chosen_longer:.1%} as written)" if before else ""
    rows = [
        (kind, f"{chosen:.1%}", f"{rejected:.1%}", f"{before.formats.get(kind, (0, 0))[1]:.1%}" if before else "–")
        for kind, (chosen, rejected) in card.formats.items()
    ]
    return [
        f"Chosen answer longer than the rejected one: {card.chosen_longer:.1%}{was}. Answers with markup:",
        "",
        *_table(("markup", "chosen", "rejected", "rejected as written"), rows),
    ]


def _front_matter(card: Card) -> list[str]:
    licences = {line.licence for line in card.authors}
    lines = ["---"]
    if len(licences) == 1 and (licence := next(iter(licences))):
        lines.append(f"license: {json.dumps(licence)}")
    lines += ["task_categories:", "- text-generation", "configs:"]
    for kind, counts in (("instruct", card.samples), ("preference", card.pairs)):
        if any(counts.values()):
            lines += [f"- config_name: {kind}", "  data_files:"]
            for split in Split:
                lines += [f"  - split: {split.value}", f"    path: {kind}/{split.value}.parquet"]
    return [*lines, "---", ""]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    filled = [tuple(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    if not filled:
        return ["None.", ""]
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join(' --- ' for _ in head)}|",
        *(f"| {' | '.join(row)} |" for row in filled),
        "",
    ]


def _list(title: str, counts: Mapping[str, int]) -> list[str]:
    return [f"{title}: {', '.join(f'{count} {name}' for name, count in counts.items())}.", ""] if counts else []
