"""Preference pairs that people judged: what they said of answers at ``/feedback``."""

import re
from collections import defaultdict
from collections.abc import Iterable

from llm_engineering.dataset.bias import balanced, bias_of
from llm_engineering.dataset.checks import broken
from llm_engineering.dataset.preferences import NotPaired, Preferred, distinct, refused
from llm_engineering.dataset.words import fingerprint
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.dataset_config import PreferenceConfig
from llm_engineering.domain.entities import fold
from llm_engineering.domain.samples import Pair, PairSource, Refusal

_MARKER = re.compile(r"[ \t]*(?:\[\d{1,3}\])+")


def from_feedback(feedback: Iterable[Feedback], config: PreferenceConfig | None = None) -> Preferred:
    """A better answer against the one that was given, or an answer voted up against one voted down on the same question.

    Each vote is in a pair or a refusal. Markers of citations go from both sides. People mostly write more where they write
    better: of pairs whose better answer is the longer one, those that are too many go, the most unequal first.
    """
    config = config or PreferenceConfig()
    outcomes: list[Pair | Refusal] = []
    votes: dict[str, dict[str, list[Feedback]]] = defaultdict(lambda: {"up": [], "down": []})
    for vote in feedback:
        if vote.better_answer and vote.better_answer.strip():
            outcomes.append(_between(vote, vote.better_answer, vote.answer, vote.document_ids, config))
        else:
            votes[fold(vote.query)][vote.vote].append(vote)
    for sides in votes.values():
        for up, down in zip(sides["up"], sides["down"], strict=False):
            documents = tuple(dict.fromkeys((*up.document_ids, *down.document_ids)))
            outcomes.append(_between(up, up.answer, down.answer, documents, config))
        paired = min(len(sides["up"]), len(sides["down"]))
        for vote in (*sides["up"][paired:], *sides["down"][paired:]):
            outcomes.append(refused(vote.request_id, vote.document_ids, NotPaired.UNPAIRED_VOTE, f"voted {vote.vote}"))
    pairs, refusals = distinct(outcomes)
    kept, dropped = balanced(pairs, tolerance=config.tolerance, length_ratio=config.length_ratio)
    refusals += [refused(pair.id, pair.document_ids, NotPaired.LENGTH_BALANCE, pair.source.value) for pair in dropped]
    return Preferred(pairs=tuple(kept), refusals=tuple(refusals), bias_before=bias_of(pairs), bias=bias_of(kept))


def _between(
    vote: Feedback, chosen: str, rejected: str, documents: tuple[str, ...], config: PreferenceConfig
) -> Pair | Refusal:
    better, worse = (_MARKER.sub("", text).strip() for text in (chosen, rejected))
    if found := broken(better) or broken(worse):
        return refused(vote.request_id, documents, NotPaired.MALFORMED, found)
    if fingerprint(better) == fingerprint(worse):
        return refused(vote.request_id, documents, NotPaired.SAME_ANSWER, "the same words")
    if max(len(better), len(worse)) > config.length_ratio * min(len(better), len(worse)):
        detail = f"{len(better)} characters against {len(worse)}"  # a gate would refuse it, and undo the balance
        return refused(vote.request_id, documents, NotPaired.LENGTH_RATIO, detail)
    return Pair.judged(
        vote.query, better, worse, source=PairSource.FEEDBACK, rejected_by="twin", document_ids=documents
    )
