"""One build of training data, from the warehouse to an audited dataset.

``draw`` the author's passages, have instructions written, ``gate``, let reviewers ``decide``, ``split`` by document, make
pairs, ``audit``. Nothing is written here: what comes back is whole, or an error says why there is none.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llm_engineering.dataset.audit import audit, require_no_leak
from llm_engineering.dataset.bias import Bias
from llm_engineering.dataset.card import DocumentLine, card_of
from llm_engineering.dataset.decontamination import EvaluationTexts, read_evaluation_sets
from llm_engineering.dataset.instruct import RULES, instruct
from llm_engineering.dataset.masking import mask
from llm_engineering.dataset.passages import passages
from llm_engineering.dataset.pieces import Piece, ReadPieces, recurring
from llm_engineering.dataset.quality import Embed, gate_pairs, gate_passages, gate_samples
from llm_engineering.dataset.split import Sides, Writing, apart, assign, pairs_apart, side_of_pair
from llm_engineering.dataset.store import Dataset
from llm_engineering.dataset.words import same_question
from llm_engineering.domain.dataset_config import DatasetConfig
from llm_engineering.domain.entities import DocumentState
from llm_engineering.domain.errors import DatasetError, UnknownAuthor
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.samples import AuthorPassage, Decision, Pair, Refusal, Sample, Split

Teach = Callable[[Sequence[AuthorPassage], Sequence[Sample]], tuple[list[Sample], list[Refusal]]]
"""A teacher: given the passages and what the rules made of them, all samples, its own in the place of those it wrote better."""


class MadePairs(NamedTuple):
    """Pairs, what became none, and how the two sides differed as the models wrote, before anything was matched."""

    pairs: Sequence[Pair]
    refusals: Sequence[Refusal] = ()
    bias_before: Bias | None = None


MakePairs = Callable[[Sequence[Sample]], MadePairs]
"""Preference pairs for kept samples, their ``chosen`` the author's answer; and pairs that come from elsewhere."""
Progress = Callable[[int, int, str], None]
"""Called with how many documents are read, of how many, and which."""

REFUSED_IN_REVIEW = "refused-in-review"
REPEATED = "repeated-instruction"
_CHANGES_AT_A_TIME = 10_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """The documents of a build, their sides, and the passages that may become answers."""

    states: dict[str, DocumentState]
    """In the order in which they arrived in the warehouse."""
    sides: Sides
    passages: list[AuthorPassage]
    candidates: int
    """Passages before the gates."""
    refusals: list[Refusal] = field(default_factory=list)
    evaluation: EvaluationTexts = EvaluationTexts()  # noqa: RUF009  # frozen

    def text(self, document_id: str, revision: int) -> str | None:
        """The text of a revision, if it is the current one."""
        state = self.states.get(document_id)
        if state is None or state.revision is None or state.revision.number != revision:
            return None
        return state.revision.text


@dataclass(frozen=True, slots=True)
class Build:
    """A dataset that the audit passed, and everything that did not get into it."""

    dataset: Dataset
    refusals: list[Refusal]


def build(
    warehouse: Warehouse,
    config: DatasetConfig,
    *,
    read: ReadPieces,
    teach: Teach | None = None,
    make_pairs: MakePairs | None = None,
    writer: str = RULES,
    embed: Embed | None = None,
    previous: Mapping[str, Split] | None = None,
    progress: Progress | None = None,
) -> Build:
    """Build the dataset of the configuration. Same warehouse, configuration and ``previous`` sides: the same bytes.

    Raises :class:`DatasetLeak` if the audit finds anything, :class:`DatasetError` if nothing is left to train on.
    """
    drawn = draw(warehouse, config, read=read, previous=previous, progress=progress)
    samples, refusals = write_instructions(drawn, config, teach)
    gated = gate_samples(
        samples, config=config.quality, revision_text=drawn.text, embed=embed, evaluation=drawn.evaluation
    )
    decisions = [each for each in warehouse.decisions() if drawn.states.keys() >= set(each.document_ids)]
    applied = {sample.id for sample in gated.kept} & {decision.sample_id for decision in decisions}
    reviewed, refused = decide(gated.kept, decisions, masking=config.quality.mask)
    separated, leaking = apart(reviewed, drawn.sides.of)
    refusals = [*drawn.refusals, *refusals, *gated.refused, *refused, *leaking]
    masked = gated.masked
    pairs: list[Pair] = []
    made = MadePairs(())
    if make_pairs is not None and separated:
        made = make_pairs(separated)
        gated_pairs = gate_pairs(
            made.pairs,
            config=config.quality,
            revision_text=drawn.text,
            length_ratio=config.preference.length_ratio,
            evaluation=drawn.evaluation,
        )
        kept, across = pairs_apart(gated_pairs.kept, separated, drawn.sides.of)
        pairs = [_in_a_voice(pair, drawn.states) for pair in kept]
        refusals += [*made.refusals, *gated_pairs.refused, *across]
        masked = masked + gated_pairs.masked
    if not separated:
        raise DatasetError(_nothing_left(drawn, refusals), hint=_NOTHING_HINT)
    by_side = _divided(separated, drawn.sides.of)
    paired = {split: tuple(pair for pair in pairs if side_of_pair(pair, drawn.sides.of) is split) for split in Split}
    found = audit(by_side, paired)
    require_no_leak(found)
    card = card_of(
        by_side,
        paired,
        config=config,
        writer=writer,
        documents=_lines(drawn, separated, pairs, masking=config.quality.mask),
        passages=drawn.candidates,
        refusals=refusals,
        masked=masked,
        decisions=Counter(each.verdict for each in decisions if each.sample_id in applied),
        decisions_unmatched=sum(each.sample_id not in applied for each in decisions),
        audit=found,
        bias_before=made.bias_before,
    )
    return Build(Dataset(card, by_side, paired), refusals)


def draw(
    warehouse: Warehouse,
    config: DatasetConfig,
    *,
    read: ReadPieces,
    previous: Mapping[str, Split] | None = None,
    progress: Progress | None = None,
) -> Drawn:
    """The passages of every live document of the configured author, gated; and the side that each document stands on."""
    states = in_order_of_arrival(warehouse, _author_id(warehouse, config.author))
    pieces: dict[str, Sequence[Piece]] = {}
    for number, (identity, state) in enumerate(states.items(), start=1):
        pieces[identity] = read(state)
        if progress is not None:
            progress(number, len(states), state.document.url)
    writings = [Writing(identity, "\n\n".join(piece.view for piece in found)) for identity, found in pieces.items()]
    sides = assign(writings, config.split, previous=previous)
    furniture = _furniture(states, pieces, sides)
    found, refusals = [], list(sides.refusals)
    for identity, state in states.items():
        if identity in sides.torn:
            continue
        here, missed = passages(
            state,
            pieces[identity],
            config=config.passages,
            terms=config.terms_of(state.author.full_name),
            furniture=furniture[state.author.id],
        )
        found += here
        refusals += missed
    evaluation = read_evaluation_sets(config.quality.evaluation_sets)
    gated = gate_passages(found, config=config.quality, evaluation=evaluation)
    return Drawn(states, sides, list(gated.kept), len(found), [*refusals, *gated.refused], evaluation)


def write_instructions(
    drawn: Drawn, config: DatasetConfig, teach: Teach | None = None
) -> tuple[list[Sample], list[Refusal]]:
    """Instructions by rules, and by a teacher where there is one."""
    texts = {identity: state.revision.text for identity, state in drawn.states.items() if state.revision is not None}
    samples, refusals = instruct(drawn.passages, config.instruct, texts=texts)
    if teach is None:
        return samples, refusals
    taught, failed = teach(drawn.passages, samples)
    return taught, refusals + failed


def decide(
    samples: Iterable[Sample], decisions: Iterable[Decision], *, masking: bool = True
) -> tuple[list[Sample], list[Refusal]]:
    """What reviewers said: ``refuse`` takes a sample out, ``edit`` gives it a person's instruction under the id it had.

    With ``masking`` secrets and personal data of that instruction are masked like those of any other.

    Where an edited instruction is the same as another sample's, the other one gives way; of two edited ones the later.
    """
    verdicts = {decision.sample_id: decision for decision in decisions}
    kept, refusals = [], []
    for sample in samples:
        decision = verdicts.get(sample.id)
        if decision is not None and decision.verdict == "refuse":
            refusals.append(_refusal(REFUSED_IN_REVIEW, sample))
        elif decision is not None and decision.verdict == "edit" and decision.instruction:
            instruction = mask(decision.instruction).text if masking else decision.instruction
            kept.append(sample.model_copy(update={"instruction": instruction, "written_by": "person"}))
        else:
            kept.append(sample)
    first: dict[str, str] = {}
    for sample in sorted(kept, key=lambda each: each.written_by != "person"):
        first.setdefault(same_question(sample.instruction), sample.id)
    unique = set(first.values())
    refusals += [_refusal(REPEATED, sample) for sample in kept if sample.id not in unique]
    return [sample for sample in kept if sample.id in unique], refusals


def in_order_of_arrival(warehouse: Warehouse, author_id: str | None = None) -> dict[str, DocumentState]:
    """Every live document by id, the one that came first into the warehouse first."""
    states = {state.document.id: state for state in warehouse.states(author_id=author_id) if state.live}
    arrived = dict.fromkeys(identity for identity in _logged(warehouse) if identity in states)
    return {identity: states[identity] for identity in (*arrived, *(other for other in states if other not in arrived))}


def _logged(warehouse: Warehouse) -> Iterator[str]:
    after = 0
    while changes := warehouse.changes(after=after, limit=_CHANGES_AT_A_TIME):
        yield from (change.document_id for change in changes)
        after = changes[-1].sequence


def _author_id(warehouse: Warehouse, name: str | None) -> str | None:
    if name is None:
        return None
    author = warehouse.find_author(name)
    if author is None:
        known = ", ".join(each.full_name for each in warehouse.authors()) or "nobody"
        raise UnknownAuthor(f"No author {name!r} in the warehouse", hint=f"Known: {known}.")
    return author.id


def _furniture(
    states: Mapping[str, DocumentState], pieces: Mapping[str, Sequence[Piece]], sides: Sides
) -> dict[str, frozenset[str]]:
    """By author, what recurs in several writings; a near-duplicate is the same writing as the one it is like."""
    writings: dict[str, dict[str, list[Piece]]] = {}
    for identity, state in states.items():
        root = identity
        while root in sides.like:
            root = sides.like[root]
        writings.setdefault(state.author.id, {}).setdefault(root, []).extend(pieces[identity])
    return {author: recurring(by_root) for author, by_root in writings.items()}


def _divided(samples: Iterable[Sample], sides: Mapping[str, Split]) -> dict[Split, tuple[Sample, ...]]:
    divided: dict[Split, list[Sample]] = {split: [] for split in Split}
    for sample in samples:
        divided[sides[sample.provenance.document_id]].append(sample)
    return {split: tuple(side) for split, side in divided.items()}


def _in_a_voice(pair: Pair, states: Mapping[str, DocumentState]) -> Pair:
    """A judged pair with its author, if its documents are of one; without documents, if the whole build is."""
    if pair.author is not None:
        return pair
    names = {states[identity].author.full_name for identity in pair.document_ids or states}
    return pair.model_copy(update={"author": names.pop()}) if len(names) == 1 else pair


def _lines(drawn: Drawn, samples: Sequence[Sample], pairs: Sequence[Pair], *, masking: bool) -> list[DocumentLine]:
    spans: dict[str, set[tuple[int, int]]] = {}
    for sample in samples:
        where = sample.provenance
        spans.setdefault(where.document_id, set()).add((where.start, where.end))
    paired = Counter(identity for pair in pairs for identity in pair.document_ids)
    lines = []
    for identity, state in drawn.states.items():
        if state.revision is None or identity not in drawn.sides.of:
            continue
        lines.append(
            DocumentLine(
                id=identity,
                revision=state.revision.number,
                url=state.document.url,
                title=mask(state.revision.title).text if masking else state.revision.title,
                author=state.author.full_name,
                kind=state.document.kind.value,
                split=drawn.sides.of[identity],
                like=drawn.sides.like.get(identity),
                spans=tuple(sorted(spans.get(identity, ()))),
                pairs=paired[identity],
            )
        )
    return lines


def _refusal(reason: str, sample: Sample) -> Refusal:
    document = sample.provenance.document_id
    return Refusal(reason=reason, subject=sample.id, document_id=document, detail=sample.instruction[:120])


def _nothing_left(drawn: Drawn, refusals: Sequence[Refusal]) -> str:
    reasons = Counter(refusal.reason for refusal in refusals)
    named = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "the warehouse is empty"
    return f"No training data: {len(drawn.states)} documents gave no sample ({named})"


_NOTHING_HINT = "Run the feature pipeline first, or lower passages.min_words in the configuration."
