"""The card for people: what a dataset holds and where it is from, in the form that the Hugging Face Hub reads."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from llm_engineering.dataset.card import Card
from llm_engineering.dataset.licences import front_matter
from llm_engineering.domain.samples import Origin, Split

_CONSENT = {True: "yes", False: "no", None: "not stated"}


def readme(card: Card) -> str:
    """The card for people, in the form that the Hugging Face Hub reads."""
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
                    _CONSENT[line.consent],
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
    licences = {line.licence for line in card.authors if line.documents}
    lines = ["---"]
    if len(licences) == 1 and (licence := next(iter(licences))):
        lines += [f"{key}: {json.dumps(value)}" for key, value in front_matter(licence).items()]
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
