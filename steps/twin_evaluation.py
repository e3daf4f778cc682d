"""From a trained model to everything that can be said of it on held-out text, and whether it may be promoted."""

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.domain.config import ChatConfig
from llm_engineering.domain.entities import Frozen, now
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.samples import request_key
from llm_engineering.evaluation.folder import write
from llm_engineering.evaluation.gate import BASE, CURRENT, Measured, Promotion, measured, promotion
from llm_engineering.evaluation.held_out import HeldOut, read_held_out
from llm_engineering.evaluation.human import blind_pairs
from llm_engineering.evaluation.replaced import style_possible
from llm_engineering.evaluation.report import Evaluated, Part, combined
from llm_engineering.evaluation.twin import REFERENCE, evaluate_model
from llm_engineering.settings import Settings, load_settings
from llm_engineering.telemetry import tracing
from steps.candidate import Candidate, Replaced, find_candidate
from steps.progress import bar

GATE = "Promotion"
FIGURES = "figures.json"
"""What the promotion gate looked at, beside the report."""
_LOST = "the run that it began with is gone: it is not read, and preference is rewarded against the base"
_log = logging.getLogger(__name__)


class Judgement(NamedTuple):
    """What was found, the figures that promotion depends on, and whether they suffice."""

    found: Evaluated
    measured: Measured
    promotion: Promotion


class _Figures(Frozen):
    """``figures.json``: figures, and of what they are."""

    key: str
    """Digest of the weights, those of the twin that would be replaced, the held-out texts, and the numbers of judging."""
    measured: Measured


@step(enable_cache=False)
def evaluate_twin(
    config: EvaluationConfig, model: str, dataset: str, author: str
) -> Annotated[Evaluated, "evaluated_model"]:
    """Judge a registered model (``NAME@VERSION``, ``NAME``, ``current``) or the folder of a finished stage or export.

    ``dataset`` is by default the one that it was trained on, ``author`` who wrote most of its test split.
    """
    with tracing("llm-twin-evaluation"):
        judgement = judge_twin(config, model, dataset=Path(dataset) if dataset else None, author=author or None)
    log_metadata(
        metadata={**judgement.measured.metrics(), "promotable": judgement.promotion.passed}, infer_artifact=True
    )
    return judgement.found


def judge_twin(
    config: EvaluationConfig,
    model: str,
    *,
    dataset: Path | None = None,
    author: str | None = None,
    name: str | None = None,
) -> Judgement:
    """The same outside a pipeline, with the figures of the gate. Pairs for people to compare are kept for the service.

    ``name`` is the one under which a folder is to be registered: it is judged against that name's current version, and under
    the reference that it will have, so that pairs and choices of people are found again when that version is judged.
    Raises :class:`UsageError` for a model, base or dataset that is not there.
    """
    return _judgement(find_candidate(model, load_settings(), name=name), config, dataset=dataset, author=author)


def _judgement(
    candidate: Candidate, config: EvaluationConfig, *, dataset: Path | None = None, author: str | None = None
) -> Judgement:
    if candidate.revision is None and not Path(candidate.base).is_dir():
        raise UsageError(
            f"The base {candidate.base}, on which {candidate.name} was trained, is not there: nothing can be compared with it",
            hint="Bring the folder back, or train again.",
        )
    held_out, current = _held_out(candidate, dataset or candidate.dataset, author, config)
    found = asyncio.run(_judged(candidate, current, held_out, load_settings(), config))
    figures = measured(
        found.parts,
        parity=candidate.parity,
        style_possible=style_possible(held_out.answers, config.twin.style),
    )
    verdict = _verdict(figures, candidate, config)
    part = Part(
        name=GATE,
        counts={"checks": len(verdict.checks), "passed": sum(check.passed for check in verdict.checks)},
        findings={"May be promoted" if verdict.passed else "May not be promoted": tuple(verdict.lines())},
    )
    facts = found.facts | _facts(candidate, current)
    return Judgement(found.model_copy(update={"parts": (*found.parts, part), "facts": facts}), figures, verdict)


def judge_and_write(
    config: EvaluationConfig, model: str, *, author: str | None, name: str | None = None, out: Path
) -> tuple[Measured, Promotion]:
    """The same, with a report in ``out`` and the figures beside it, which :func:`known_figures` finds again."""
    candidate = find_candidate(model, load_settings(), name=name)
    judgement = _judgement(candidate, config, author=author)
    write(combined([judgement.found], out=out, at=now()), level=config.level)
    figures = _Figures(key=_key(candidate, author, config), measured=judgement.measured)
    (out / FIGURES).write_text(figures.model_dump_json(indent=1), encoding="utf-8")
    return judgement.measured, judgement.promotion


def known_figures(
    config: EvaluationConfig, model: str, *, author: str | None, out: Path
) -> tuple[Measured, Promotion] | None:
    """What was written to ``out`` and the verdict on it now; ``None`` where it is of other weights, of another current twin, of
    other held-out texts, or judged by other numbers.
    """
    candidate = find_candidate(model, load_settings())
    try:
        kept = _Figures.model_validate_json((out / FIGURES).read_bytes())
    except (OSError, ValueError):  # never judged, or by another version of this program: judge
        return None
    if kept.key != _key(candidate, author, config):
        return None
    return kept.measured, _verdict(kept.measured, candidate, config)


def _key(candidate: Candidate, author: str | None, config: EvaluationConfig) -> str:
    numbers = config.model_dump(mode="json")
    del numbers["twin"]["gate"]
    current = candidate.current.weights if candidate.current else None
    return request_key("figures-v1", candidate.weights, current, str(candidate.dataset), author, numbers)


def _verdict(figures: Measured, candidate: Candidate, config: EvaluationConfig) -> Promotion:
    current = candidate.current.reference if candidate.current else None
    return promotion(figures, current=current, config=config.twin.gate)


def _held_out(
    candidate: Candidate, dataset: Path, author: str | None, config: EvaluationConfig
) -> tuple[HeldOut, Replaced | None]:
    """The texts that neither the candidate nor the twin that it would replace has seen, and that twin.

    Where the current twin has seen all that is held out from the candidate, it is left out: it cannot be compared.
    """
    read = partial(
        read_held_out,
        dataset,
        author=author,
        distractors=config.twin.distractors,
        limit=config.twin.limit,
        seed=config.seed,
        trained_on=[folder for folder in candidate.trained_on if folder.is_dir()],
    )
    if candidate.current is not None:
        try:
            return read(seen=candidate.seen | candidate.current.seen), candidate.current
        except UsageError as error:  # if it is not for the current twin, the next line raises it again
            _log.info("%s is not compared: %s", candidate.current.reference, error)
    return read(seen=candidate.seen), None


def _facts(candidate: Candidate, current: Replaced | None) -> dict[str, str]:
    """What a reader must know of the candidate's past, and of what it was compared with."""
    facts = {REFERENCE: _LOST} if candidate.lost else {}
    if gone := [folder.name for folder in candidate.trained_on if not folder.is_dir()]:
        facts["training text"] = f"without that of {', '.join(gone)}, which is gone"
    if current is not None:
        facts[CURRENT] = current.reference
    elif candidate.current is not None:
        facts[CURRENT] = f"{candidate.current.reference} was trained on every held-out document: it is not compared"
    return facts


async def _judged(
    candidate: Candidate,
    current: Replaced | None,
    held_out: HeldOut,
    settings: Settings,
    config: EvaluationConfig,
) -> Evaluated:
    places: dict[str, tuple[str, str | None]] = {BASE: (candidate.base, candidate.revision)}
    if candidate.start is not None:
        places[REFERENCE] = (str(candidate.start), None)
    if current is not None:
        places[CURRENT] = (str(current.folder), None)
    places["twin"] = (str(candidate.folder), None)
    quantization = bootstrap.common_quantization(dict(places.values()))
    scorers = {
        stage: partial(bootstrap.open_scorer, place, revision=revision, quantization=quantization)
        for stage, (place, revision) in places.items()
    }
    manners = ChatConfig(concurrency=config.twin.concurrency, timeout=600, quantization=quantization)
    blind = bootstrap.open_blind_pairs(settings)
    model = bootstrap.open_local_model(candidate.folder, manners, name=f"{candidate.name} {candidate.weights}")
    rival = (
        bootstrap.open_local_model(current.folder, manners, name=f"{current.reference} {current.weights}")
        if current
        else None
    )
    judging = bootstrap.open_chat_model(settings, ChatConfig()) if bootstrap.plans(settings) else None
    try:
        with bootstrap.open_warehouse(settings) as warehouse, bar("held-out instructions") as progress:
            found, answered = await evaluate_model(
                candidate.name,
                held_out,
                model=model,
                current=rival,
                scorers=scorers,
                judging=judging,
                journal=warehouse,
                choices=blind.choices(),
                weights=candidate.weights,
                config=config.twin,
                evaluation=config,
                progress=progress,
            )
    finally:
        if judging is not None:
            await judging.close()
    pairs = blind_pairs(
        answered,
        model=candidate.name,
        author=held_out.author,
        weights=candidate.weights,
        limit=config.twin.blind_pairs,
        evaluation=config,
    )
    blind.replace(candidate.name, pairs)
    return found
