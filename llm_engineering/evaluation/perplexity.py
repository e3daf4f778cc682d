"""Held-out perplexity: how surprised a model is by text that it was not trained on.

Perplexity is ``exp(-(sum of log p(token | what stands before it)) / (number of tokens))`` in the model's own tokens, over all
texts at once: a long text weighs more than a short one. The log-probabilities come from a callable; no engine is loaded here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from pydantic import Field

from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import TrainingError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import PerplexityConfig
from llm_engineering.evaluation.report import GEOMETRIC, MEAN, UNIT, Figure, Part
from llm_engineering.evaluation.resampling import Numbers, ratio

NAME, SURPRISE = "Perplexity on the author's held-out text", "Bits and nats of the author's held-out text"
LARGEST = 1e12
"""A perplexity beyond it is told as it: that of weights that have diverged may be no number at all."""
ANSWERS, TEXTS = "answers to instructions", "plain text"
"""What is read: answers given their instructions, or the same text with nothing before it."""

LogProbabilities = Callable[[Sequence[int]], Sequence[float]]
"""For token ids, ``log p(ids[i] | ids[:i])`` of each from the second on, in nats: one value fewer than ids."""
Encode = Callable[[str], Sequence[int]]
"""Token ids of a plain text, with the token that begins every text, if the model has one, in front."""
Render = Callable[[Prompt, str], tuple[Sequence[int], Sequence[int]]]
"""Token ids of a prompt in the model's chat template, and of the answer with its end-of-turn token."""


class Window(Frozen):
    """Tokens ``[start:end)`` are read; those from ``first`` on are counted."""

    start: int
    end: int
    first: int


class Told(Frozen):
    """What a model made of one text: the sum of its tokens' negative log-probabilities in nats, and how many those are."""

    id: str
    document_id: str
    nats: float
    tokens: int = Field(ge=0)
    characters: int = Field(ge=0)


def windows(length: int, *, context: int, stride: int, first: int = 1) -> Iterator[Window]:
    """Windows of at most ``context`` tokens in which each token from ``first`` on is counted exactly once.

    A further window counts at most ``stride`` new tokens, after ``context - stride`` or more tokens that it only reads. The
    first token of a text has nothing before it and is never counted.
    """
    first, stride = max(1, first), min(stride, context - 1)
    while first < length:
        end = min(length, context if first < context else first + stride)
        yield Window(start=max(0, end - context), end=end, first=first)
        first = end


def surprise(
    ids: Sequence[int], log_probabilities: LogProbabilities, *, config: PerplexityConfig, first: int = 1
) -> tuple[float, int]:
    """Sum of ``-log p`` over the tokens from ``first`` on, in nats, and their number.

    Raises :class:`TrainingError` where a log-probability is none: the model is broken.
    """
    nats, tokens = 0.0, 0
    for window in windows(len(ids), context=config.context, stride=config.stride, first=first):
        values = np.asarray(log_probabilities(ids[window.start : window.end]), dtype=np.float64)
        if len(values) != window.end - window.start - 1 or not np.isfinite(values).all():
            raise TrainingError(
                f"The model gave no log-probability for every token of a text of {len(ids)} tokens",
                hint="Its weights hold no numbers, or it reads another context than asked for.",
            )
        nats -= float(values[window.first - window.start - 1 :].sum())
        tokens += window.end - window.first
    return nats, tokens


def of_answer(
    prompt: Prompt,
    answer: str,
    *,
    id_: str,
    document_id: str,
    render: Render,
    log_probabilities: LogProbabilities,
    config: PerplexityConfig,
) -> Told:
    """Perplexity of an answer alone, given its prompt: the tokens that training learns from, the end of turn among them."""
    asked, answered = render(prompt, answer)
    nats, tokens = surprise([*asked, *answered], log_probabilities, config=config, first=len(asked))
    return Told(id=id_, document_id=document_id, nats=nats, tokens=tokens, characters=len(answer))


def of_text(
    text: str,
    *,
    id_: str,
    document_id: str,
    encode: Encode,
    log_probabilities: LogProbabilities,
    config: PerplexityConfig,
) -> Told:
    """Perplexity of a whole text, every token but the first."""
    nats, tokens = surprise(encode(text), log_probabilities, config=config)
    return Told(id=id_, document_id=document_id, nats=nats, tokens=tokens, characters=len(text))


def perplexity(told: Mapping[str, Sequence[Told]], *, evaluation: EvaluationConfig) -> list[Part]:
    """The figures of each set of texts. Models with other tokenizers compare by bits per character alone."""
    perplexities, figures = [], []
    for name, texts in told.items():
        nats, groups = [each.nats for each in texts], [each.document_id for each in texts]
        tokens, characters = [float(each.tokens) for each in texts], [float(each.characters) for each in texts]
        interval = ratio(nats, tokens, groups, config=evaluation, then=_exp)
        perplexities.append(Figure(name=f"perplexity, {name}", over="texts", interval=interval))
        figures += [
            Figure(
                name=f"nats per token, {name}", over="texts", interval=ratio(nats, tokens, groups, config=evaluation)
            ),
            Figure(
                name=f"bits per character, {name}",
                over="texts",
                interval=ratio([each / np.log(2) for each in nats], characters, groups, config=evaluation),
            ),
        ]
    diverged = any(each.interval and each.interval.mean >= LARGEST for each in perplexities)
    missing = "" if any(each.tokens for texts in told.values() for each in texts) else "there is no held-out text"
    per_token = Part(
        name=NAME,
        figures=tuple(perplexities),
        counts={f"tokens, {name}": sum(each.tokens for each in texts) for name, texts in told.items()},
        notes=(
            "Per token of the model; models with other tokenizers compare by bits per character.",
            *((f"A perplexity of {LARGEST:g} stands for any that is larger.",) if diverged else ()),
        ),
        missing=missing,
        rows=tuple(
            {
                "id": each.id,
                "group": each.document_id,
                "weight": float(each.tokens),
                UNIT: f"{each.tokens} tokens",
                MEAN: GEOMETRIC,
                f"perplexity, {name}": float(_exp(np.array(each.nats / each.tokens))),
            }
            for name, texts in told.items()
            for each in texts
            if each.tokens
        ),
    )
    logarithms = Part(
        name=SURPRISE,
        figures=tuple(figures),
        missing=missing,
        rows=tuple(
            row
            for name, texts in told.items()
            for each in texts
            for row in (
                {
                    "id": each.id,
                    "group": each.document_id,
                    "weight": float(each.tokens),
                    UNIT: f"{each.tokens} tokens",
                    f"nats per token, {name}": each.nats / max(1, each.tokens),
                },
                {
                    "id": each.id,
                    "group": each.document_id,
                    "weight": float(each.characters),
                    f"bits per character, {name}": each.nats / np.log(2) / max(1, each.characters),
                },
            )
            if row["weight"]
        ),
    )
    return [per_token, logarithms]


def _exp(values: Numbers) -> Numbers:
    with np.errstate(over="ignore"):
        found: Numbers = np.minimum(np.exp(values), LARGEST)
    return found
