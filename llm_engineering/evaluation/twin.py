"""Judge a trained twin: it answers the held-out instructions, and every measure looks at the same answers."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from llm_engineering.domain.blind import BlindChoice
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import ChatModel
from llm_engineering.domain.samples import Pair
from llm_engineering.domain.twin_evaluation_config import TwinEvaluationConfig
from llm_engineering.evaluation.gate import BASE
from llm_engineering.evaluation.held_out import HeldOut
from llm_engineering.evaluation.human import human
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
from llm_engineering.evaluation.preference import preference, rewards
from llm_engineering.evaluation.prose import StyleText
from llm_engineering.evaluation.report import Evaluated, Part
from llm_engineering.evaluation.style import style

Progress = Callable[[int, int], None]
REFERENCE = "sft"
"""Stage whose policy DPO starts from and is rewarded against; without one the base is the reference."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """What gives log-probabilities under one model; see :mod:`~llm_engineering.evaluation.perplexity` for the promises."""

    encode: Encode
    render: Render
    log_probabilities: LogProbabilities


async def evaluate_model(
    name: str,
    held_out: HeldOut,
    *,
    model: ChatModel,
    scorers: Mapping[str, Scorer],
    judging: ChatModel | None,
    journal: Journal,
    choices: Sequence[BlindChoice],
    config: TwinEvaluationConfig,
    evaluation: EvaluationConfig,
    progress: Progress = lambda done, total: None,
) -> tuple[Evaluated, list[Answered]]:
    """Every measure of one model, and the answers that were judged (material for blind pairs).

    ``scorers`` are by stage in the order of training, such as ``base``, ``sft``, ``dpo``: the last one is the model that is
    judged, the others are what it came from. ``choices`` are what people chose so far. Raises what the models raise, save a
    reply of no use, which counts as an empty answer.
    """
    answered, failed = await write_answers(
        held_out, model, sampling=config.sampling, concurrency=config.concurrency, progress=progress
    )
    written = [StyleText(document_id=one.document_id, text=one.twin) for one in answered]
    parts = [
        await asyncio.to_thread(_perplexity, held_out, scorers, config, evaluation),
        await asyncio.to_thread(_preference, held_out, scorers, config, evaluation),
    ]
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
    parts.append(
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
    parts.append(human(choices, model=name, evaluation=evaluation))
    facts = {
        "model": name,
        "author": held_out.author,
        "dataset": held_out.dataset,
        "stages": ", ".join(scorers),
        "held-out instructions": str(len(held_out.tasks)),
        "without a usable answer": str(failed),
        "temperature": f"{config.sampling.temperature}",
        "seed": str(evaluation.seed),
    }
    return Evaluated(parts=tuple(parts), facts=facts), answered


async def write_answers(
    held_out: HeldOut,
    model: ChatModel,
    *,
    sampling: Sampling,
    concurrency: int,
    progress: Progress = lambda done, total: None,
) -> tuple[list[Answered], int]:
    """What the model writes to each task in the author's voice, and how many replies were of no use (an empty answer)."""
    written: dict[int, str | None] = {}
    queue = iter(enumerate(held_out.tasks))

    async def work() -> None:
        for number, task in queue:
            prompt = voice_prompt(task.instruction, author=held_out.author)
            try:
                written[number] = (await model.complete(prompt, sampling=sampling)).text
            except ModelReplyInvalid:
                written[number] = None
            progress(len(written), len(held_out.tasks))

    tasks = [asyncio.ensure_future(work()) for _ in range(min(concurrency, len(held_out.tasks)))]
    try:
        await asyncio.gather(*tasks)
    finally:  # the first error ends all of them
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    answered = [
        Answered(
            id=task.id,
            document_id=task.document_id,
            instruction=task.instruction,
            author=task.answer,
            twin=written[number] or "",
        )
        for number, task in enumerate(held_out.tasks)
    ]
    return answered, sum(text is None for text in written.values())


def _perplexity(
    held_out: HeldOut, scorers: Mapping[str, Scorer], config: TwinEvaluationConfig, evaluation: EvaluationConfig
) -> Part:
    told: dict[str, list[Told]] = {}
    for stage, scorer in scorers.items():
        suffix = "" if stage == list(scorers)[-1] else f" ({stage})"
        told[ANSWERS + suffix] = [
            of_answer(
                voice_prompt(task.instruction, author=held_out.author),
                task.answer,
                id_=task.id,
                document_id=task.document_id,
                render=scorer.render,
                log_probabilities=scorer.log_probabilities,
                config=config.perplexity,
            )
            for task in held_out.tasks
        ]
        told[TEXTS + suffix] = [
            of_text(
                task.answer,
                id_=task.id,
                document_id=task.document_id,
                encode=scorer.encode,
                log_probabilities=scorer.log_probabilities,
                config=config.perplexity,
            )
            for task in held_out.tasks
        ]
    return perplexity(told, evaluation=evaluation)


def _preference(
    held_out: HeldOut, scorers: Mapping[str, Scorer], config: TwinEvaluationConfig, evaluation: EvaluationConfig
) -> Part:
    """Rewards of the last stage against the SFT policy, or the base where it is the SFT stage itself."""
    stages = list(scorers)
    before = REFERENCE if REFERENCE in stages[:-1] else BASE
    if before not in stages[:-1]:
        return Part(name=PREFERENCE, missing="there is no earlier stage to reward it against")

    def under(stage: str) -> Callable[[Pair, str], float]:
        scorer = scorers[stage]

        def log_probability(pair: Pair, answer: str) -> float:
            asked, answered = scorer.render(voice_prompt(pair.instruction, author=held_out.author), answer)
            nats, _ = surprise(
                [*asked, *answered], scorer.log_probabilities, config=config.perplexity, first=len(asked)
            )
            return -nats

        return log_probability

    found = rewards(held_out.pairs, policy=under(stages[-1]), reference=under(before), beta=config.beta)
    part = preference(found, evaluation=evaluation)
    return part.model_copy(update={"notes": (*part.notes, f"Reference: {before}; beta {config.beta:g}.")})
