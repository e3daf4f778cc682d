"""Instructions by rules: what a person might have asked for, so that the author's passage is the answer (back-translation).

Everything comes from the passage's own title, headings, kind and key phrases; which style and wording is used follows from a
hash of the passage, so that the same passage is asked for in the same words in every build, whatever else is in the corpus.
"""

import math
from collections.abc import Mapping, Sequence

from llm_engineering.dataset.topics import Wording
from llm_engineering.dataset.wordings import WORDINGS, Subject
from llm_engineering.dataset.words import same_question
from llm_engineering.domain.dataset_config import InstructConfig
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle, Refusal, Sample

RULES = "rules"
"""Who wrote the instruction."""


def instruct(
    passages: Sequence[AuthorPassage], config: InstructConfig, *, texts: Mapping[str, str] | None = None
) -> tuple[list[Sample], list[Refusal]]:
    """``per_passage`` samples for every passage in order, and a refusal for each instruction that could not be made.

    No two samples ask the :func:`~llm_engineering.dataset.words.same_question`: a passage whose wording is taken gets
    another one, in another style if need be. ``texts``: the documents' texts by id, from which it is told what is a name
    there.
    """
    wordings = {document: Wording(text) for document, text in (texts or {}).items()}
    taken: set[str] = set()
    samples: list[Sample] = []
    refusals: list[Refusal] = []
    parts = _parts(passages)
    for passage in passages:
        where = passage.provenance
        wording = wordings.get(where.document_id) or Wording(passage.text)
        subject = Subject.of(passage, wording, part=parts[passage.key])
        used: set[InstructionStyle] = set()
        for number in range(config.per_passage):
            found = _first_free(subject, config, number, taken, used)
            if found is None:
                refusals.append(_none_left(passage, number))
                break
            style, instruction = found
            used.add(style)
            taken.add(same_question(instruction))
            samples.append(Sample.of(passage, instruction, style=style, written_by=RULES))
    return samples, refusals


def _parts(passages: Sequence[AuthorPassage]) -> dict[str, int]:
    """For each passage how many of the same section stand before it."""
    counts: dict[tuple[str, tuple[str, ...]], int] = {}
    parts: dict[str, int] = {}
    for passage in passages:
        section = (passage.provenance.document_id, passage.provenance.heading_path)
        parts[passage.key] = counts.get(section, 0)
        counts[section] = parts[passage.key] + 1
    return parts


def _first_free(
    subject: Subject, config: InstructConfig, number: int, taken: set[str], used: set[InstructionStyle]
) -> tuple[InstructionStyle, str] | None:
    for style in _styles(subject, config, number):
        if style in used:
            continue
        wordings = list(WORDINGS[style](subject))
        first = subject.choice(style.value, len(wordings)) if wordings else 0
        for instruction in wordings[first:] + wordings[:first]:
            if same_question(instruction) and same_question(instruction) not in taken:
                return style, instruction
    return None


def _styles(subject: Subject, config: InstructConfig, number: int) -> list[InstructionStyle]:
    """All styles with a share that fit, in an order that the hash draws (Efraimidis and Spirakis, 2006).

    Another style that comes to fit, or no longer does, leaves the order of the others as it is.
    """
    shares = {style: share for style, share in config.styles.items() if share > 0 and any(WORDINGS[style](subject))}
    return sorted(shares, key=lambda style: -math.log(subject.point(f"style {number} {style}")) / shares[style])


def _none_left(passage: AuthorPassage, number: int) -> Refusal:
    detail = "no instruction of its own could be made" if number == 0 else f"only {number} different instructions"
    return Refusal(
        reason="no-instruction", subject=passage.key, document_id=passage.provenance.document_id, detail=detail
    )
