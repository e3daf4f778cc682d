"""Preference pairs: the author's own passage against what models write to the same instruction, and what people judged.

Four ways to get a pair, one table: the author against a base model, the current twin or another model (a person wrote, the
source decides); two answers of models between which a judge model decides, or a person (:mod:`llm_engineering.dataset.votes`).
"""

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from llm_engineering.dataset.asking import Missing, Plain, Request
from llm_engineering.dataset.bias import Bias, balanced, bias_of, cut_to, in_the_format_of
from llm_engineering.dataset.budget import Budget, Cost
from llm_engineering.dataset.calls import Calls, Progress, Told, for_each
from llm_engineering.dataset.checks import broken, broken_reply, cut_off, languages_differ, model_refusal
from llm_engineering.dataset.estimate import Estimate, estimated
from llm_engineering.dataset.words import count_words, fingerprint
from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.chat import preference_prompt, voice_prompt, weaker_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.dataset_config import PreferenceConfig
from llm_engineering.domain.ports import ChatModel, Warehouse
from llm_engineering.domain.samples import Origin, Pair, PairSource, Refusal, Sample

GENERATED = (PairSource.BASE, PairSource.TWIN, PairSource.OTHER)
"""Sources that set a model's answer against the author's."""

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
    pairs, refusals = distinct(outcomes)
    kept: list[Pair] = []
    dropped: list[Pair] = []
    for group in ([pair for pair in pairs if pair.provenance], [pair for pair in pairs if not pair.provenance]):
        stay, go = balanced(group, tolerance=config.tolerance, length_ratio=config.length_ratio)
        kept, dropped = kept + stay, dropped + go
    refusals += [refused(pair.id, pair.document_ids, NotPaired.LENGTH_BALANCE, pair.source.value) for pair in dropped]
    return Preferred(
        pairs=tuple(kept),
        refusals=tuple(refusals),
        cost=cost(),
        bias_before=bias_of(untouched),
        bias=bias_of(kept),
    )


def estimate_pairs(
    samples: Sequence[Sample],
    *,
    rivals: Sequence[Rival],
    warehouse: Warehouse,
    config: PreferenceConfig,
    judge: ChatModel | None = None,
) -> Estimate:
    """Count prompts, tokens and money of :func:`prefer`, less what the journal already holds. Nothing is sent.

    What a judge will read is not written yet: it is counted as if the answers were as long as the author's.
    """
    chosen = [sample for sample in samples if sample.origin is Origin.AUTHOR]
    asked: dict[int, list[Request[Plain]]] = {id(rival.model): [] for rival in rivals}
    models = {id(rival.model): rival.model for rival in rivals}
    judging = judge is not None and bool(rivals) and PairSource.JUDGE in config.sources
    for sample in chosen:
        for rival in rivals:
            wanted = config.per_sample if rival.source in config.sources else 0
            asked[id(rival.model)] += [_request(sample, rival, number, config) for number in range(wanted)]
        if judging:
            for rival, number in _competitors(rivals):
                asked[id(rival.model)].append(_request(sample, rival, number, config))
    total = Estimate()
    for identity, requests in asked.items():
        total += estimated(requests, model=models[identity], warehouse=warehouse, config=config.calls)
    if judge is not None and judging:
        like_it = [(sample, f"{sample.answer} …") for sample in chosen]
        verdicts = [
            _verdict_on(sample, *both) for sample, text in like_it for both in _both_orders(sample.answer, text)
        ]
        total += estimated(verdicts, model=judge, warehouse=warehouse, config=config.calls)
    return total


def _request(sample: Sample, rival: Rival, number: int, config: PreferenceConfig) -> Request[Plain]:
    """What a rival is asked: in the words that the twin is trained on, or in weaker ones that name a length."""
    words = count_words(sample.answer)
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
        return refused(sample.id, (sample.provenance.document_id,), raw.reason, raw.detail)
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
            return refused(sample.id, (sample.provenance.document_id,), reason, found)
    return text


def _too_short(text: str, sample: Sample, config: PreferenceConfig) -> str | None:
    if len(text) * config.length_ratio < len(sample.answer):
        return f"{len(text)} characters for {len(sample.answer)}"
    return None


async def _ranked(
    sample: Sample, rivals: Sequence[Rival], calls: dict[int, Calls], judges: Calls, config: PreferenceConfig
) -> Pair | Refusal:
    """Two answers of the rivals, ranked by a judge that sees them in both orders beside the author's own text."""
    texts: list[str] = []
    for rival, number in _competitors(rivals):
        text = _usable(sample, await calls[id(rival.model)].ask(_request(sample, rival, number, config)), config)
        if isinstance(text, Refusal):
            return text
        texts.append(text)
    one, other = texts
    documents = (sample.provenance.document_id,)
    if fingerprint(one) == fingerprint(other):
        return refused(sample.id, documents, NotPaired.SAME_ANSWER, "the same words")
    if max(len(one), len(other)) > config.length_ratio * min(len(one), len(other)):
        return refused(sample.id, documents, NotPaired.LENGTH_RATIO, f"{len(one)} characters against {len(other)}")
    verdicts = []
    for first, second in _both_orders(one, other):
        verdict = await judges.ask(_verdict_on(sample, first, second))
        if isinstance(verdict, Missing):
            return refused(sample.id, documents, verdict.reason, verdict.detail)
        verdicts.append(verdict.better)
    if "neither" in verdicts:
        return refused(sample.id, documents, NotPaired.JUDGE_UNDECIDED, " then ".join(verdicts))
    if verdicts[0] == verdicts[1]:
        return refused(sample.id, documents, NotPaired.JUDGE_TURNED, f"{verdicts[0]} in both orders")
    (writer, _), (rival, _) = _competitors(rivals)
    chosen, rejected, loser = (one, other, rival) if verdicts[0] == "first" else (other, one, writer)
    return Pair.judged(
        sample.instruction,
        chosen,
        rejected,
        source=PairSource.JUDGE,
        rejected_by=loser.model.name,
        document_ids=documents,
    )


def _competitors(rivals: Sequence[Rival]) -> tuple[tuple[Rival, int], tuple[Rival, int]]:
    """Whose answers a judge compares, and which of theirs: the first two rivals, or two answers of the only one."""
    return ((rivals[0], 0), (rivals[1], 0)) if len(rivals) > 1 else ((rivals[0], 0), (rivals[0], 1))


def _both_orders(one: str, other: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (one, other), (other, one)


def _verdict_on(sample: Sample, first: str, second: str) -> Request[Verdict]:
    prompt = preference_prompt(
        sample.instruction, author=sample.provenance.author, passage=sample.answer, first=first, second=second
    )
    sampling = Sampling(temperature=0.0, max_tokens=_VERDICT_TOKENS)
    return Request("judge-v1", prompt, Verdict, sampling, (sample.provenance.document_id,))


def distinct(outcomes: Iterable[Pair | Refusal]) -> tuple[list[Pair], list[Refusal]]:
    """The pairs, and the refusals: two models that write the same make one pair."""
    pairs: dict[str, Pair] = {}
    refusals: list[Refusal] = []
    for outcome in outcomes:
        if isinstance(outcome, Refusal):
            refusals.append(outcome)
        elif outcome.id in pairs:
            detail = f"{outcome.source.value}: as {pairs[outcome.id].source.value}"
            refusals.append(refused(outcome.id, outcome.document_ids, NotPaired.DUPLICATE, detail))
        else:
            pairs[outcome.id] = outcome
    return list(pairs.values()), refusals


def refused(subject: str, documents: tuple[str, ...], reason: StrEnum, detail: str) -> Refusal:
    """One candidate that became no pair."""
    return Refusal(reason=reason.value, subject=subject, document_id=documents[0] if documents else None, detail=detail)
