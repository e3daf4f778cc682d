"""What must not be in a training set, looked for by code that shares nothing with what was to keep it out."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import DatasetLeak
from llm_engineering.domain.samples import InstructionStyle, Pair, Sample, Split
from llm_engineering.domain.words import CHARACTER, UNSPACED, letters

LENGTHS = (8, 13)
"""Words of the runs that are compared."""
_EXAMPLES = 2
"""Of each kind of leak."""
_SHOWN = 5
_LONGEST = 120


class Overlap(Frozen):
    """What a held-out side shares with the sides that are trained on."""

    texts: int
    """Answers of the held-out side."""
    shared: dict[int, int] = Field(default_factory=dict)
    """How many of them share a run of so many words with a text of another side, by length of the run."""


class Audit(Frozen):
    """What the audit found. Everything but the counts of texts must be zero."""

    samples: int
    overlap: dict[str, Overlap] = Field(default_factory=dict)
    """By held-out split."""
    shared_documents: int = 0
    """Documents with samples or pairs on more than one side."""
    repeated_instructions: int = 0
    """Samples whose instruction another sample has too, case and punctuation aside."""
    instructions_across: int = 0
    """Held-out instructions that are asked on another side as well."""
    chosen_rejected: int = 0
    """Pairs whose two answers are the same."""
    examples: tuple[str, ...] = ()
    """Some of what was found, of each kind: what a person may look for in review."""

    @property
    def leaks(self) -> int:
        """How many things were found that must not be there."""
        overlapping = sum(count for overlap in self.overlap.values() for count in overlap.shared.values())
        found = self.shared_documents + self.repeated_instructions + self.instructions_across + self.chosen_rejected
        return overlapping + found


def audit(samples: Mapping[Split, Sequence[Sample]], pairs: Mapping[Split, Sequence[Pair]] | None = None) -> Audit:
    """Read all sides and count what they share. Knows nothing of how they were divided."""
    pairs = pairs or {}
    examples: list[str] = []
    everything = [sample for side in samples.values() for sample in side]
    return Audit(
        samples=len(everything),
        shared_documents=_shared_documents(samples, pairs, examples),
        repeated_instructions=_repeated(everything, examples),
        instructions_across=_across(samples, pairs, examples),
        chosen_rejected=_equal(pairs, examples),
        overlap={split.value: _overlap(split, samples, pairs, examples) for split in (Split.VALIDATION, Split.TEST)},
        examples=tuple(examples),
    )


def require_no_leak(found: Audit) -> None:
    """Raise :class:`DatasetLeak` if the audit found anything."""
    if not found.leaks:
        return
    named = {
        "documents on two sides": found.shared_documents,
        "repeated instructions": found.repeated_instructions,
        "instructions on two sides": found.instructions_across,
        "pairs of equal answers": found.chosen_rejected,
        **{
            f"{split} answers that share {length} words in a row": count
            for split, overlap in found.overlap.items()
            for length, count in overlap.shared.items()
        },
    }
    what = ", ".join(f"{count} {name}" for name, count in named.items() if count)
    example = f"; for example {'; '.join(found.examples[:_SHOWN])}" if found.examples else ""
    raise DatasetLeak(
        f"The dataset leaks: {what}{example}",
        hint="Nothing was written. Refuse or edit what is named, or report it: the splitter should have kept it apart.",
    )


def _overlap(
    split: Split,
    samples: Mapping[Split, Sequence[Sample]],
    pairs: Mapping[Split, Sequence[Pair]],
    examples: list[str],
) -> Overlap:
    held_out = [_words(sample.answer) for sample in samples.get(split, ())]
    others = [side for side in Split if side is not split]
    texts = [sample.answer for side in others for sample in samples.get(side, ())]
    texts += [_own_words(sample) for side in others for sample in samples.get(side, ())]
    texts += [text for side in others for pair in pairs.get(side, ()) for text in (pair.chosen, pair.rejected)]
    shared = {}
    for length in LENGTHS:
        wanted = {run for answer in held_out for run in _runs(answer, length)}
        known = {run for text in texts for run in _runs(_words(text), length) if run in wanted}
        hits = [
            run for answer in held_out if (run := next((run for run in _runs(answer, length) if run in known), None))
        ]
        shared[length] = len(hits)
        examples += [f"the words {' '.join(run)!r} of {split}" for run in hits[:_EXAMPLES]]
    return Overlap(texts=len(held_out), shared=shared)


def _shared_documents(
    samples: Mapping[Split, Sequence[Sample]], pairs: Mapping[Split, Sequence[Pair]], examples: list[str]
) -> int:
    sides: dict[str, set[Split]] = {}
    for split, side in samples.items():
        for sample in side:
            sides.setdefault(sample.provenance.document_id, set()).add(split)
    for split, paired in pairs.items():
        for pair in paired:
            for document_id in pair.document_ids:
                sides.setdefault(document_id, set()).add(split)
    torn = [document_id for document_id, found in sides.items() if len(found) > 1]
    examples += [f"document {document_id}" for document_id in torn[:_EXAMPLES]]
    return len(torn)


def _repeated(samples: Sequence[Sample], examples: list[str]) -> int:
    asked = Counter(_words(sample.instruction) for sample in samples)
    again = [sample.instruction for sample in samples if asked[_words(sample.instruction)] > 1]
    examples += [_named(instruction) for instruction in again[:_EXAMPLES]]
    return len(samples) - len(asked)


def _across(
    samples: Mapping[Split, Sequence[Sample]], pairs: Mapping[Split, Sequence[Pair]], examples: list[str]
) -> int:
    asked: dict[Split, dict[tuple[str, ...], str]] = {
        split: {
            **{_words(sample.instruction): sample.instruction for sample in samples.get(split, ())},
            **{_words(pair.instruction): pair.instruction for pair in pairs.get(split, ())},
        }
        for split in Split
    }
    train, validation, test = asked[Split.TRAIN], asked[Split.VALIDATION], asked[Split.TEST]
    from_test = test.keys() & (train.keys() | validation.keys())
    from_validation = validation.keys() & train.keys()
    found = [text for words, text in test.items() if words in from_test]
    found += [text for words, text in validation.items() if words in from_validation]
    examples += [_named(instruction) for instruction in found[:_EXAMPLES]]
    return len(found)


def _equal(pairs: Mapping[Split, Sequence[Pair]], examples: list[str]) -> int:
    same = [pair for side in pairs.values() for pair in side if _words(pair.chosen) == _words(pair.rejected)]
    examples += [f"the pair of {_named(pair.instruction)}" for pair in same[:_EXAMPLES]]
    return len(same)


def _named(instruction: str) -> str:
    """An instruction as an example: its beginning on one line."""
    return f'the instruction "{" ".join(instruction.split())[:_LONGEST]}"'


def _own_words(sample: Sample) -> str:
    """What an instruction may hold of a text: all of one to continue (the lead line is English only), else its further lines."""
    whole = sample.style is InstructionStyle.CONTINUE
    return sample.instruction if whole else sample.instruction.partition("\n")[2]


_WORD = re.compile(rf"(?=\w){CHARACTER}|{letters()}")
_UNSPACED = re.compile(f"[{UNSPACED}]")


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _runs(tokens: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    """Every run of so many words; where nothing parts words (Chinese, Thai) of twice as many characters."""
    lengths = [1 if _UNSPACED.match(token) else 2 for token in tokens]
    end = filled = 0
    for start in range(len(tokens)):
        while filled < 2 * length and end < len(tokens):
            filled += lengths[end]
            end += 1
        if filled < 2 * length:
            return
        yield tuple(tokens[start:end])
        filled -= lengths[start]
