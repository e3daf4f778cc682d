"""Judge a trained twin: it answers the held-out instructions, and every measure looks at the same answers."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from llm_engineering.domain.blind import BlindChoice
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import ChatModel
from llm_engineering.domain.samples import Pair
from llm_engineering.domain.twin_evaluation_config import PerplexityConfig, TwinEvaluationConfig
from llm_engineering.evaluation.answers import Progress, answers, write_answers
from llm_engineering.evaluation.gate import BASE
from llm_engineering.evaluation.held_out import HeldOut
from llm_engineering.evaluation.human import blind_pairs, human
from llm_engineering.evaluation.judge import Journal, judge
from llm_engineering.evaluation.memorisation import memorisation
from llm_engineering.evaluation.overlap import Answered, overlap
from llm_engineering.evaluation.perplexity import (
    ANSWERS,
    TEXTS,
    Encode,
    LogProbabilities,
    Render,
    Told,
    of_answer,
    of_text,
    perplexity,
    surprise,
)
from llm_engineering.evaluation.preference import NAME as PREFERENCE
from llm_engineering.evaluation.preference import AnswerLogProbability, preference, rewards
from llm_engineering.evaluation.prose import StyleText
from llm_engineering.evaluation.replaced import current_style
from llm_engineering.evaluation.report import Evaluated, Part
from llm_engineering.evaluation.style import style

REFERENCE = "sft"
"""Stage whose policy DPO starts from and is rewarded against; without one the base is the reference."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """What gives log-probabilities under one model; see :mod:`~llm_engineering.evaluation.perplexity` for the promises."""

    encode: Encode
    render: Render
    log_probabilities: LogProbabilities
    window: int
    """Tokens that it reads at once."""


OpenScorer = Callable[[], AbstractContextManager[Scorer]]
"""Loads a model's weights, and lets go of them when the context closes."""


async def evaluate_model(
    name: str,
    held_out: HeldOut,
    *,
    model: ChatModel,
    current: ChatModel | None = None,
    scorers: Mapping[str, OpenScorer],
    judging: ChatModel | None,
    journal: Journal,
    choices: Sequence[BlindChoice],
    weights: str = "",
    config: TwinEvaluationConfig,
    evaluation: EvaluationConfig,
    progress: Progress = lambda done, total: None,
) -> tuple[Evaluated, list[Answered]]:
    """Every measure of one model, and the answers that were judged (material for blind pairs).

    ``scorers`` are by stage in the order of training, such as ``base``, ``sft``, ``dpo``: the last one is the model that is
    judged, the others are what it came from. ``current`` is the twin that it would replace, which answers the same
    instructions. Both are closed when they have written: the scorers need their memory. ``choices`` are what people chose so
    far: those count that are about what these ``weights`` (a digest) have written. Raises what the models raise, save a reply of
    no use, which counts as an empty answer; the report says why.
    """

    async def written_by(writer: ChatModel) -> tuple[list[Answered], list[str]]:
        try:
            return await write_answers(
                held_out,
                writer,
                journal=journal,
                sampling=config.sampling,
                concurrency=config.concurrency,
                progress=progress,
            )
        finally:
            await writer.close()

    answered, useless = await written_by(model)
    replaced = _texts((await written_by(current))[0]) if current is not None else None
    written = _texts(answered)
    parts = [answers(answered, useless, fewest=config.answer_words, evaluation=evaluation)]
    parts += await asyncio.to_thread(_scored, held_out, scorers, config, evaluation)
    parts += await asyncio.to_thread(
        partial(
            style,
            twin=written,
            held_out=held_out.answers,
            known=held_out.known,
            distractors=held_out.others,
            config=config.style,
            evaluation=evaluation,
        )
    )
    if replaced is not None:
        parts.append(
            await asyncio.to_thread(
                partial(
                    current_style,
                    replaced,
                    held_out=held_out.answers,
                    known=held_out.known,
                    config=config.style,
                    evaluation=evaluation,
                )
            )
        )
    parts.extend(
        await asyncio.to_thread(
            partial(
                memorisation,
                twin=written,
                held_out=held_out.answers,
                training=held_out.training,
                config=config.memorisation,
                evaluation=evaluation,
            )
        )
    )
    parts.append(await asyncio.to_thread(overlap, answered, evaluation=evaluation))
    parts.append(
        await judge(
            answered,
            model=judging,
            author=held_out.author,
            known=held_out.known,
            journal=journal,
            config=config.judge,
            evaluation=evaluation,
        )
    )
    pairs = blind_pairs(answered, model=name, author=held_out.author, weights=weights, evaluation=evaluation)
    parts.append(human(choices, pairs=pairs, evaluation=evaluation))
    facts = {
        "model": name,
        "author": held_out.author,
        "dataset": held_out.dataset,
        "stages": ", ".join(scorers),
        "held-out instructions": str(len(held_out.tasks)),
        **{f"left out: {reason}": str(count) for reason, count in held_out.left_out.items()},
        "temperature": f"{config.sampling.temperature}",
        "seed": str(evaluation.seed),
    }
    return Evaluated(parts=tuple(parts), facts=facts), answered


def _texts(answered: Sequence[Answered]) -> list[StyleText]:
    return [StyleText(document_id=one.document_id, text=one.twin) for one in answered]


class _Read(NamedTuple):
    """What one stage made of the held-out texts, and of the pairs: log-probabilities of chosen and rejected by pair."""

    answers: list[Told]
    texts: list[Told]
    pairs: dict[str, tuple[float, float]]


def _read(held_out: HeldOut, scorer: Scorer, numbers: PerplexityConfig) -> _Read:
    context = min(numbers.context, scorer.window)
    config = numbers.model_copy(update={"context": context, "stride": min(numbers.stride, max(1, context // 2))})

    def log_probability(pair: Pair, answer: str) -> float:
        asked, answered = scorer.render(voice_prompt(pair.instruction, author=pair.author), answer)
        ids = [*asked, *answered]
        nats, _ = surprise(ids, scorer.log_probabilities, config=config, first=len(asked))
        return -nats

    return _Read(
        answers=[
            of_answer(
                voice_prompt(task.instruction, author=held_out.author),
                task.answer,
                id_=task.id,
                document_id=task.document_id,
                render=scorer.render,
                log_probabilities=scorer.log_probabilities,
                config=config,
            )
            for task in held_out.tasks
        ],
        texts=[
            of_text(
                task.answer,
                id_=task.id,
                document_id=task.document_id,
                encode=scorer.encode,
                log_probabilities=scorer.log_probabilities,
                config=config,
            )
            for task in held_out.tasks
        ],
        pairs={
            pair.id: (log_probability(pair, pair.chosen), log_probability(pair, pair.rejected))
            for pair in held_out.pairs
        },
    )


def _scored(
    held_out: HeldOut, scorers: Mapping[str, OpenScorer], config: TwinEvaluationConfig, evaluation: EvaluationConfig
) -> list[Part]:
    """Perplexity of each stage, and rewards of the last one; one stage is open at a time."""
    read: dict[str, _Read] = {}
    for stage, opened in scorers.items():
        with opened() as scorer:
            read[stage] = _read(held_out, scorer, config.perplexity)
    last = list(read)[-1]
    told: dict[str, list[Told]] = {}
    for stage, found in read.items():
        suffix = "" if stage == last else f" ({stage})"
        told |= {ANSWERS + suffix: found.answers, TEXTS + suffix: found.texts}
    return [*perplexity(told, evaluation=evaluation), _preference(held_out, read, config, evaluation)]


def _preference(
    held_out: HeldOut, read: Mapping[str, _Read], config: TwinEvaluationConfig, evaluation: EvaluationConfig
) -> Part:
    """Rewards of the last stage against the SFT policy, or against the base where there is no SFT stage before it.

    Before and after DPO, the rewards of both policies against the base tell what DPO changed.
    """
    *earlier, last = read
    before = next((stage for stage in (REFERENCE, BASE) if stage in earlier), None)
    if before is None:
        return Part(name=PREFERENCE, missing="there is no earlier stage to reward it against")

    def under(stage: str) -> AnswerLogProbability:
        return lambda pair, answer: read[stage].pairs[pair.id][0 if answer == pair.chosen else 1]

    def rewarded(policy: str, reference: str) -> Part:
        found = rewards(held_out.pairs, policy=under(policy), reference=under(reference), beta=config.beta)
        return preference(found, evaluation=evaluation)

    part = rewarded(last, before)
    notes = (*part.notes, f"Reference: {before}; beta {config.beta:g}.")
    figures = list(part.figures)
    if before == REFERENCE and BASE in earlier:
        for stage, when in ((REFERENCE, "before"), (last, "after")):
            figures += [
                each.model_copy(update={"name": f"{each.name} against the base, {when} DPO"})
                for each in rewarded(stage, BASE).figures
            ]
    return part.model_copy(update={"figures": tuple(figures), "notes": notes})
