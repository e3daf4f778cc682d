"""One build of training data, from the warehouse to an audited dataset.

``draw`` the author's passages, have instructions written, ``gate``, let reviewers ``decide``, ``split`` by document, make
pairs, ``audit``. Nothing is written here: what comes back is whole, or an error says why there is none.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from llm_engineering.dataset.audit import audit, require_no_leak
from llm_engineering.dataset.bias import Bias
from llm_engineering.dataset.card import DocumentLine, card_of
from llm_engineering.dataset.decisions import decide
from llm_engineering.dataset.decontamination import EvaluationTexts, read_evaluation_sets
from llm_engineering.dataset.instruct import RULES, instruct
from llm_engineering.dataset.masking import mask
from llm_engineering.dataset.mixture import gated_or_by_rules, within_share
from llm_engineering.dataset.passages import passages
from llm_engineering.dataset.pieces import Piece, ReadPieces, recurring
from llm_engineering.dataset.quality import Embed, gate_pairs, gate_passages, gate_samples
from llm_engineering.dataset.split import Sides, Writing, apart, assign, pairs_apart, side_of_pair
from llm_engineering.dataset.store import Dataset
from llm_engineering.domain.dataset_config import AuthorTerms, DatasetConfig
from llm_engineering.domain.entities import DocumentState
from llm_engineering.domain.errors import DatasetError, UnknownAuthor
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.samples import AuthorPassage, Pair, Refusal, Sample, Split

Teach = Callable[[Sequence[AuthorPassage], Sequence[Sample], Mapping[str, Split]], tuple[list[Sample], list[Refusal]]]
"""A teacher: given passages, what the rules made of them, and the documents' sides, all samples, its own in the place of
those by rules."""


class MadePairs(NamedTuple):
    """Pairs, what became none, and how the two sides differed as the models wrote, before anything was matched."""

    pairs: Sequence[Pair]
    refusals: Sequence[Refusal] = ()
    bias_before: Bias | None = None


MakePairs = Callable[[Sequence[Sample]], MadePairs]
"""Preference pairs for kept samples, their ``chosen`` the author's answer; and pairs that come from elsewhere."""
Progress = Callable[[int, int, str], None]
"""Called with how many documents are read, of how many, and which."""

NO_CONSENT = "no-consent"
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
    terms: dict[str, AuthorTerms] = field(default_factory=dict)
    """What each author agreed to, by name; also of those who did not."""

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

    Raises :class:`DatasetLeak` if the audit finds anything, :class:`DatasetError` if nothing is left to train on: before
    anything is paid for, where that can be known.
    """
    drawn = draw(warehouse, config, read=read, previous=previous, progress=progress)
    by_rules, refusals = write_instructions(drawn, config)
    samples, failed = teach(drawn.passages, by_rules, drawn.sides.of) if teach else (by_rules, [])
    gate = partial(
        gate_samples, config=config.quality, revision_text=drawn.text, embed=embed, evaluation=drawn.evaluation
    )
    gated = gated_or_by_rules(samples, by_rules, gate)
    decisions = [each for each in warehouse.decisions() if drawn.states.keys() >= set(each.document_ids)]
    applied = {sample.id for sample in gated.kept} & {decision.sample_id for decision in decisions}
    reviewed, refused = decide(gated.kept, decisions, masking=config.quality.mask)
    separated, leaking = apart(reviewed, drawn.sides.of)
    separated, beyond = within_share(separated, drawn.sides.of, config.instruct.rephrased_share)
    refusals = [*drawn.refusals, *refusals, *failed, *gated.refused, *refused, *leaking, *beyond]
    require_training_data(separated, drawn, refusals)
    masked = gated.masked
    pairs: list[Pair] = []
    made = MadePairs(())
    if make_pairs is not None:
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
    by_side = _divided(separated, drawn.sides.of)
    paired = {split: tuple(pair for pair in pairs if side_of_pair(pair, drawn.sides.of) is split) for split in Split}
    found = audit(by_side, paired)
    require_no_leak(found)
    card = card_of(
        by_side,
        paired,
        config=config,
        writer=writer,
        terms=drawn.terms,
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
    """The passages of every live document of the configured author, gated; and the side that each document stands on.

    The documents of an author who does not agree are left out.
    """
    states = in_order_of_arrival(warehouse, _author_id(warehouse, config.author))
    terms = {state.author.full_name: config.terms_of(state.author) for state in states.values()}
    left_out = {identity for identity, state in states.items() if terms[state.author.full_name].consent is False}
    states = {identity: state for identity, state in states.items() if identity not in left_out}
    pieces: dict[str, Sequence[Piece]] = {}
    for number, (identity, state) in enumerate(states.items(), start=1):
        pieces[identity] = read(state)
        if progress is not None:
            progress(number, len(states), state.document.url)
    writings = [Writing(identity, "\n\n".join(piece.view for piece in found)) for identity, found in pieces.items()]
    sides = assign(writings, config.split, previous=previous)
    furniture = _furniture(states, pieces, sides)
    found, refusals = [], list(sides.refusals)
    refusals += [Refusal(reason=NO_CONSENT, subject=identity, document_id=identity) for identity in sorted(left_out)]
    for identity, state in states.items():
        if identity in sides.torn:
            continue
        here, missed = passages(
            state,
            pieces[identity],
            config=config.passages,
            terms=terms[state.author.full_name],
            furniture=furniture[state.author.id],
        )
        found += here
        refusals += missed
    evaluation = read_evaluation_sets(config.quality.evaluation_sets)
    gated = gate_passages(found, config=config.quality, evaluation=evaluation)
    return Drawn(states, sides, list(gated.kept), len(found), [*refusals, *gated.refused], evaluation, terms)


def write_instructions(drawn: Drawn, config: DatasetConfig) -> tuple[list[Sample], list[Refusal]]:
    """Instructions by rules.

    Raises :class:`DatasetError` where none of the passages may be trained on.
    """
    require_training_data(drawn.passages, drawn, drawn.refusals)
    texts = {identity: state.revision.text for identity, state in drawn.states.items() if state.revision is not None}
    return instruct(drawn.passages, config.instruct, texts=texts)


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


def require_training_data(left: Sequence[AuthorPassage | Sample], drawn: Drawn, refusals: Sequence[Refusal]) -> None:
    """Raise :class:`DatasetError` if nothing that is left stands on the side that is trained on."""
    counts = Counter(drawn.sides.of[each.provenance.document_id] for each in left)
    if counts[Split.TRAIN]:
        return
    reasons = Counter(refusal.reason for refusal in refusals)
    named = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    if not counts:
        raise DatasetError(
            f"No training data: {len(drawn.states)} documents gave no sample ({named or 'the warehouse is empty'})",
            hint="Run the feature pipeline first, or lower passages.min_words in the configuration.",
        )
    held_out = ", ".join(f"{counts[split]} {split}" for split in (Split.VALIDATION, Split.TEST))
    raise DatasetError(
        f"No training data: {len(drawn.states)} documents gave only what is held out ({held_out}, refused: {named or 'none'})",
        hint="Bring in more documents, or change validation, test or salt under split: that alone deals documents anew.",
    )
