"""Preference pairs that people judged: what they said of answers at ``/feedback``."""

import re
from collections import defaultdict
from collections.abc import Iterable

from llm_engineering.dataset.bias import bias_of
from llm_engineering.dataset.checks import broken
from llm_engineering.dataset.preferences import NotPaired, Preferred, refused
from llm_engineering.dataset.words import fingerprint
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import fold
from llm_engineering.domain.samples import Pair, PairSource, Refusal

_MARKER = re.compile(r"[ \t]*(?:\[\d{1,3}\])+")


def from_feedback(feedback: Iterable[Feedback]) -> Preferred:
    """A better answer against the one that was given, or an answer voted up against one voted down on the same question.

    Each vote is in a pair or a refusal. Markers of citations go from both sides.
    """
    pairs: list[Pair] = []
    refusals: list[Refusal] = []
    votes: dict[str, dict[str, list[Feedback]]] = defaultdict(lambda: {"up": [], "down": []})
    for vote in feedback:
        if vote.better_answer and vote.better_answer.strip():
            _add(_between(vote, vote.better_answer, vote.answer, vote.document_ids), pairs, refusals)
        else:
            votes[fold(vote.query)][vote.vote].append(vote)
    for sides in votes.values():
        for up, down in zip(sides["up"], sides["down"], strict=False):
            documents = tuple(dict.fromkeys((*up.document_ids, *down.document_ids)))
            _add(_between(up, up.answer, down.answer, documents), pairs, refusals)
        paired = min(len(sides["up"]), len(sides["down"]))
        for vote in (*sides["up"][paired:], *sides["down"][paired:]):
            refusals.append(refused(vote.request_id, vote.document_ids, NotPaired.UNPAIRED_VOTE, f"voted {vote.vote}"))
    return Preferred(pairs=tuple(pairs), refusals=tuple(refusals), bias_before=bias_of(pairs), bias=bias_of(pairs))


def _between(vote: Feedback, chosen: str, rejected: str, documents: tuple[str, ...]) -> Pair | Refusal:
    better, worse = (_MARKER.sub("", text).strip() for text in (chosen, rejected))
    if found := broken(better) or broken(worse):
        return refused(vote.request_id, documents, NotPaired.MALFORMED, found)
    if fingerprint(better) == fingerprint(worse):
        return refused(vote.request_id, documents, NotPaired.SAME_ANSWER, "the same words")
    return Pair.judged(
        vote.query, better, worse, source=PairSource.FEEDBACK, rejected_by="twin", document_ids=documents
    )


def _add(outcome: Pair | Refusal, pairs: list[Pair], refusals: list[Refusal]) -> None:
    if isinstance(outcome, Pair):
        pairs.append(outcome)
    else:
        refusals.append(outcome)
