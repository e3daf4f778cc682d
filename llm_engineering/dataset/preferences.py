"""Preference pairs: the author's own passage against what models write to the same instruction, and what people judged.

Four ways to get a pair, one table: the author against a base model, the current twin or another model (a person wrote, the
source decides); two answers of a model between which a person (``/feedback``) or a judge model decides.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from llm_engineering.dataset.bias import Bias, balanced, bias_of, cut_to, in_the_format_of
from llm_engineering.dataset.budget import Budget, Cost
from llm_engineering.dataset.calls import Calls, Missing, Plain, Progress, Request, Told, for_each
from llm_engineering.dataset.checks import broken, broken_reply, cut_off, languages_differ, model_refusal
from llm_engineering.dataset.words import fingerprint
from llm_engineering.domain.answers import Feedback, Prompt
from llm_engineering.domain.chat import preference_prompt, voice_prompt, weaker_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.dataset_config import PreferenceConfig
from llm_engineering.domain.entities import fold
from llm_engineering.domain.ports import ChatModel, Warehouse
from llm_engineering.domain.samples import Origin, Pair, PairSource, Refusal, Sample

GENERATED = (PairSource.BASE, PairSource.TWIN, PairSource.OTHER)
"""Sources that set a model's answer against the author's."""

_MARKER = re.compile(r"[ \t]*(?:\[\d{1,3}\])+")
_VERDICT_TOKENS = 60
_TOKENS_PER_WORD = 2.5
"""With room for long words and other languages; what is too long is cut at a sentence."""


class NotPaired(StrEnum):
    """Why there is no pair."""

    SAME_ANSWER = "chosen-equals-rejected"
    DUPLICATE = "duplicate"
    EMPTY = "empty-reply"
    MALFORMED = "malformed"
    CUT_OFF = "cut-off"
    MODEL_REFUSAL = "model-refusal"
    OTHER_LANGUAGE = "other-language"
    LENGTH_RATIO = "length-ratio"
    LENGTH_BALANCE = "length-balance"
    """Well-formed, but one too many of those whose chosen answer is the longer (or the shorter) one."""
    JUDGE_UNDECIDED = "judge-undecided"
    JUDGE_TURNED = "judge-turned"
    """Asked with the answers swapped, the judge prefers the other one: it judged the place."""
    UNPAIRED_VOTE = "unpaired-vote"
    """A vote without a better answer, and without an opposite vote on the same question."""


@dataclass(frozen=True)
class Rival:
    """A model whose answers are set against the author's, and how it is asked."""

    source: PairSource
    model: ChatModel
    weaker: bool = False
    """Asked by a prompt that knows nothing of the author."""


class Preferred(BaseModel):
    """Everything that came of a run."""

    model_config = ConfigDict(frozen=True)

    pairs: tuple[Pair, ...]
    refusals: tuple[Refusal, ...]
    cost: Cost = Cost()
    bias_before: Bias = Bias()
    """As the models wrote, before formats and lengths were matched."""
    bias: Bias = Bias()


class Verdict(BaseModel):
    """What a judge says of two texts."""

    model_config = ConfigDict(frozen=True)

    better: Literal["first", "second", "neither"]


async def prefer(
    samples: Sequence[Sample],
    *,
    rivals: Sequence[Rival],
    warehouse: Warehouse,
    config: PreferenceConfig,
    judge: ChatModel | None = None,
    progress: Progress | None = None,
) -> Preferred:
    """Pairs for the author's samples from the configured sources; each candidate is a pair or a refusal.

    ``chosen`` of a generated pair is the author's answer, untouched. Rephrased samples get none. Every call is journalled
    and within the budget of ``config.calls``, which all models share. With :attr:`PairSource.JUDGE` two answers of the
    rivals are shown to the judge in both orders.
    """
    chosen = [sample for sample in samples if sample.origin is Origin.AUTHOR]
    generated = [rival for rival in rivals if rival.source in config.sources]
    judged = chosen if judge is not None and rivals and PairSource.JUDGE in config.sources else []
    tasks = [(sample, rival, n) for sample in chosen for rival in generated for n in range(config.per_sample)]
    async with AsyncExitStack() as stack:
        budget = Budget(config.calls)
        everyone = [*(rival.model for rival in rivals), *([judge] if judge else [])]
        calls = {
            id(model): await stack.enter_async_context(Calls(model, warehouse, config.calls, budget=budget))
            for model in {id(model): model for model in everyone}.values()
        }

        def cost() -> Cost:
            return sum((each.cost for each in calls.values()), start=Cost())

        told = Told(cost, len(tasks) + len(judged), progress)

        async def write(task: tuple[Sample, Rival, int]) -> tuple[str, Pair | Refusal]:
            sample, rival, number = task
            raw = await calls[id(rival.model)].ask(_request(sample, rival, number, config))
            outcome = _paired(sample, rival, raw, config)
            told(refused=isinstance(outcome, Refusal))
            return (raw.text if isinstance(raw, Plain) else "", outcome)

        async def rank(sample: Sample) -> Pair | Refusal:
            outcome = await _ranked(sample, rivals, calls, calls[id(judge)], config)
            told(refused=isinstance(outcome, Refusal))
            return outcome

        workers = 2 * config.calls.concurrency + 2
        written = await for_each(tasks, write, workers=workers)
        ranked = await for_each(judged, rank, workers=workers)
    outcomes = [outcome for _, outcome in written] + ranked
    untouched = [
        pair.model_copy(update={"rejected": raw}) for raw, pair in written if isinstance(pair, Pair)
    ]  # as they came, to say what matching did
    pairs, refusals = _distinct(outcomes)
    kept, dropped = balanced(pairs, tolerance=config.tolerance, length_ratio=config.length_ratio)
    refusals += [_refused(pair.id, pair.document_ids, NotPaired.LENGTH_BALANCE, pair.source.value) for pair in dropped]
    return Preferred(
        pairs=tuple(kept),
        refusals=tuple(refusals),
        cost=cost(),
        bias_before=bias_of(untouched),
        bias=bias_of(kept),
    )


def from_feedback(feedback: Iterable[Feedback]) -> Preferred:
    """Pairs that people judged: a better answer against the one that was given, or an answer voted up against one voted
    down on the same question. Markers of citations go from both sides."""
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
            refusals.append(_refused(vote.request_id, vote.document_ids, NotPaired.UNPAIRED_VOTE, f"voted {vote.vote}"))
    return Preferred(pairs=tuple(pairs), refusals=tuple(refusals), bias_before=bias_of(pairs), bias=bias_of(pairs))


def _request(sample: Sample, rival: Rival, number: int, config: PreferenceConfig) -> Request[Plain]:
    """What a rival is asked: in the words that the twin is trained on, or in weaker ones that name a length."""
    words = len(sample.answer.split())
    prompt: Prompt
    if rival.weaker:
        prompt = weaker_prompt(sample.instruction, words=_length_asked(sample, words))
    else:
        prompt = voice_prompt(sample.instruction, author=sample.provenance.author)
    most = min(config.calls.sampling.max_tokens, int(words * config.length_ratio * _TOKENS_PER_WORD) + 60)
    sampling = config.calls.sampling.model_copy(update={"max_tokens": most, "seed": number})
    documents = (sample.provenance.document_id,)
    return Request(f"rejected-{rival.source.value}-v1", prompt, Plain, sampling, documents)


def _length_asked(sample: Sample, words: int) -> int:
    """Somewhat longer than the author for one half of the samples, somewhat shorter for the other."""
    return max(5, round(words * (1.15 if int(sample.id[:8], 16) % 2 else 0.9)))


def _paired(sample: Sample, rival: Rival, raw: Plain | Missing, config: PreferenceConfig) -> Pair | Refusal:
    text = _usable(sample, raw, config)
    if isinstance(text, Refusal):
        return text
    return Pair.of(sample, text, source=rival.source, rejected_by=rival.model.name)


def _usable(sample: Sample, raw: Plain | Missing, config: PreferenceConfig) -> str | Refusal:
    """A reply in the author's format and about the author's length, or why it is of no use."""
    if isinstance(raw, Missing):
        return _refused(sample.id, (sample.provenance.document_id,), raw.reason, raw.detail)
    most = int(len(sample.answer) * config.length_ratio)
    spoken = text = in_the_format_of(sample.answer, raw.text)
    if raw.finish_reason == "length" or len(text) > most:
        text = cut_to(text, most)
    checks: tuple[tuple[StrEnum, str | None], ...] = (
        (NotPaired.EMPTY, None if raw.text.strip() else "nothing"),
        (NotPaired.MALFORMED, broken_reply(spoken) or (broken(text) if text else None)),
        (NotPaired.MODEL_REFUSAL, model_refusal(spoken)),
        (NotPaired.LENGTH_RATIO, _too_short(text, sample, config)),
        (NotPaired.CUT_OFF, cut_off(text)),
        (NotPaired.OTHER_LANGUAGE, languages_differ(text, sample.answer)),
        (NotPaired.SAME_ANSWER, "the same words" if fingerprint(text) == fingerprint(sample.answer) else None),
    )
    for reason, found in checks:
        if found:
            return _refused(sample.id, (sample.provenance.document_id,), reason, found)
    return text


def _too_short(text: str, sample: Sample, config: PreferenceConfig) -> str | None:
    if len(text) * config.length_ratio < len(sample.answer):
        return f"{len(text)} characters for {len(sample.answer)}"
    return None


async def _ranked(
    sample: Sample, rivals: Sequence[Rival], calls: dict[int, Calls], judges: Calls, config: PreferenceConfig
) -> Pair | Refusal:
    """Two answers of the rivals, ranked by a judge that sees them in both orders beside the author's own text."""
    writers = (rivals[0], rivals[1] if len(rivals) > 1 else rivals[0])
    numbers = (0, 0 if len(rivals) > 1 else 1)
    texts: list[str] = []
    for rival, number in zip(writers, numbers, strict=True):
        text = _usable(sample, await calls[id(rival.model)].ask(_request(sample, rival, number, config)), config)
        if isinstance(text, Refusal):
            return text
        texts.append(text)
    one, other = texts
    documents = (sample.provenance.document_id,)
    if fingerprint(one) == fingerprint(other):
        return _refused(sample.id, documents, NotPaired.SAME_ANSWER, "the same words")
    verdicts = []
    for first, second in ((one, other), (other, one)):
        prompt = preference_prompt(
            sample.instruction, author=sample.provenance.author, passage=sample.answer, first=first, second=second
        )
        sampling = Sampling(temperature=0.0, max_tokens=_VERDICT_TOKENS)
        verdict = await judges.ask(Request("judge-v1", prompt, Verdict, sampling, documents))
        if isinstance(verdict, Missing):
            return _refused(sample.id, documents, verdict.reason, verdict.detail)
        verdicts.append(verdict.better)
    if "neither" in verdicts:
        return _refused(sample.id, documents, NotPaired.JUDGE_UNDECIDED, " then ".join(verdicts))
    if verdicts[0] == verdicts[1]:
        return _refused(sample.id, documents, NotPaired.JUDGE_TURNED, f"{verdicts[0]} in both orders")
    chosen, rejected, loser = (one, other, writers[1]) if verdicts[0] == "first" else (other, one, writers[0])
    return Pair.judged(
        sample.instruction,
        chosen,
        rejected,
        source=PairSource.JUDGE,
        rejected_by=loser.model.name,
        document_ids=documents,
    )


def _distinct(outcomes: Iterable[Pair | Refusal]) -> tuple[list[Pair], list[Refusal]]:
    """The pairs, and the refusals: two models that write the same make one pair."""
    pairs: dict[str, Pair] = {}
    refusals: list[Refusal] = []
    for outcome in outcomes:
        if isinstance(outcome, Refusal):
            refusals.append(outcome)
        elif outcome.id in pairs:
            detail = f"{outcome.source.value}: as {pairs[outcome.id].source.value}"
            refusals.append(_refused(outcome.id, outcome.document_ids, NotPaired.DUPLICATE, detail))
        else:
            pairs[outcome.id] = outcome
    return list(pairs.values()), refusals


def _between(vote: Feedback, chosen: str, rejected: str, documents: tuple[str, ...]) -> Pair | Refusal:
    better, worse = (_MARKER.sub("", text).strip() for text in (chosen, rejected))
    if found := broken(better) or broken(worse):
        return _refused(vote.request_id, documents, NotPaired.MALFORMED, found)
    if fingerprint(better) == fingerprint(worse):
        return _refused(vote.request_id, documents, NotPaired.SAME_ANSWER, "the same words")
    return Pair.judged(
        vote.query, better, worse, source=PairSource.FEEDBACK, rejected_by="twin", document_ids=documents
    )


def _add(outcome: Pair | Refusal, pairs: list[Pair], refusals: list[Refusal]) -> None:
    if isinstance(outcome, Pair):
        pairs.append(outcome)
    else:
        refusals.append(outcome)


def _refused(subject: str, documents: tuple[str, ...], reason: StrEnum, detail: str) -> Refusal:
    return Refusal(reason=reason.value, subject=subject, document_id=documents[0] if documents else None, detail=detail)
