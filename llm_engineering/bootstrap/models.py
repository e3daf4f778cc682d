"""Who writes: chat models at an endpoint, trained ones in this process, ``offline``; and who ranks and scores."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.bootstrap.stores import open_registry
from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.chat import VERSION as PROMPTS
from llm_engineering.domain.config import ChatConfig
from llm_engineering.domain.dataset_config import PreferenceConfig
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.ports import ChatModel, Reranker
from llm_engineering.domain.registry import PREFIX
from llm_engineering.domain.samples import PairSource

if TYPE_CHECKING:
    from llm_engineering.adapters.transformers_folder import Quantization
    from llm_engineering.dataset.preferences import Rival
    from llm_engineering.evaluation.twin import Scorer
    from llm_engineering.settings import Settings

OFFLINE = "offline"
"""The ``LLM_MODEL`` that needs no model."""

_log = logging.getLogger(__name__)


def open_chat_model(
    settings: "Settings",
    config: ChatConfig,
    *,
    embed: Callable[[Sequence[str]], list[list[float]]] | None = None,
    terms: Callable[[str], Sequence[int]] | None = None,
) -> ChatModel:
    """The model named by ``LLM_MODEL``: at ``LLM_BASE_URL``, a trained one (``twin:…``), or ``offline``, which quotes and uses
    the given encoders.

    Nothing is contacted before the first call; whoever opens it awaits its ``close``. Raises :class:`UsageError` for a
    trained model that is not there, :class:`StoreError` for one whose files are gone.
    """
    from llm_engineering.adapters.traced_model import TracedModel

    if is_local_twin(settings):
        registry = open_registry(settings)
        version = registry.find(settings.llm_model)
        if version.lineage.prompt_version != PROMPTS:
            _log.warning(
                "%s was trained on version %d of the prompts and is asked in version %d: train it again",
                version.reference, version.lineage.prompt_version, PROMPTS,
            )  # fmt: skip
        return open_local_model(registry.folder(version), config, name=f"{PREFIX}{version.reference}")
    if settings.llm_model == OFFLINE:
        from llm_engineering.adapters.offline import OfflineModel

        return TracedModel(OfflineModel(embed=embed, terms=terms), provider=OFFLINE)
    from llm_engineering.adapters.openai import OpenAIChatModel

    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
    model = OpenAIChatModel(settings.llm_base_url, settings.llm_model, key, config)
    return TracedModel(model, provider="openai")


def open_local_model(folder: Path, config: ChatConfig, *, name: str) -> ChatModel:
    """The model in a folder (a finished stage of training, an export, whatever transformers loads), called ``name``."""
    from llm_engineering.adapters.traced_model import TracedModel
    from llm_engineering.adapters.transformers import TransformersChatModel

    return TracedModel(TransformersChatModel(folder, config, name=name), provider="transformers")


def open_reranker(settings: "Settings") -> Reranker | None:
    """The cross-encoder named by ``RERANKER_MODEL``, loaded: its time for a question is none for loading. ``None`` where
    none is named; :class:`ModelUnavailable` for one that is not there.
    """
    if not settings.reranker_model:
        return None
    from llm_engineering.adapters.cross_encoder import CrossEncoderReranker

    reranker = CrossEncoderReranker(settings.reranker_model)
    reranker.load()
    return reranker


def common_quantization(places: Mapping[str, str | None]) -> "Quantization":
    """The precision in which all of these models fit on this machine's GPU: folders, or names of bases with their revisions."""
    from llm_engineering.adapters.transformers_folder import fitting_quantization, local_model

    return fitting_quantization([local_model(place, revision=revision) for place, revision in places.items()])


@contextmanager
def open_scorer(
    place: str, *, revision: str | None = None, quantization: "Quantization" = "auto"
) -> Iterator["Scorer"]:
    """Log-probabilities under the model in a folder, or the base of that name at that revision; prompts are rendered as
    training renders them.
    """
    from llm_engineering.adapters.transformers_scores import LocalScores
    from llm_engineering.evaluation.twin import Scorer
    from llm_engineering.training.render import encoded, render

    scores = LocalScores(place, revision=revision, quantization=quantization)

    def tokens(prompt: Prompt, answer: str) -> tuple[list[int], list[int]]:
        asked = [{"role": message.role, "content": message.content} for message in prompt.messages]
        text = render(scores.tokenizer, asked, answer)
        return encoded(scores.tokenizer, text.prompt), encoded(scores.tokenizer, text.completion)

    try:
        yield Scorer(
            encode=scores.encode,
            render=tokens,
            log_probabilities=scores.log_probabilities,
            window=scores.window,
        )
    finally:
        scores.close()


@asynccontextmanager
async def open_rivals(
    settings: "Settings", config: PreferenceConfig
) -> AsyncIterator[tuple[list["Rival"], ChatModel | None]]:
    """Who writes rejected answers for the configured sources, and the judge, all at ``LLM_BASE_URL``.

    A judge without other sources compares the twin with a weaker prompt. Raises :class:`UsageError` where a source has no
    model: neither a name in ``config.models`` nor an ``LLM_MODEL``.
    """
    from llm_engineering.dataset.preferences import GENERATED, Rival

    sources = [source for source in GENERATED if source in config.sources]
    judging = PairSource.JUDGE in config.sources
    if judging and not sources:
        sources = [PairSource.TWIN, PairSource.OTHER]
    named = {
        source: config.models.get(source, settings.llm_model)
        for source in (*sources, *((PairSource.JUDGE,) if judging else ()))
    }
    if lacking := [source.value for source, name in named.items() if name == OFFLINE]:
        raise UsageError(
            f"No model writes the answers of preference.sources {', '.join(lacking)}: LLM_MODEL is offline",
            hint="Set LLM_BASE_URL and LLM_MODEL, name models in preference.models, or leave these sources out.",
        )
    manners = ChatConfig(timeout=config.calls.timeout, concurrency=config.calls.concurrency)
    models = {
        name: open_chat_model(settings.model_copy(update={"llm_model": name}), manners)
        for name in dict.fromkeys(named.values())
    }
    try:
        rivals = [
            Rival(source, models[named[source]], weaker=source is PairSource.OTHER and config.weaker_prompt)
            for source in sources
        ]
        yield rivals, models[named[PairSource.JUDGE]] if judging else None
    finally:
        for model in models.values():
            await model.close()


def is_local_twin(settings: "Settings") -> bool:
    """Whether ``LLM_MODEL`` names a trained model of the registry."""
    return settings.llm_model.startswith(PREFIX)


def require_local_twin(settings: "Settings") -> None:
    """Raise what :func:`open_chat_model` would raise for a trained model that is not there or not whole; loads nothing."""
    if is_local_twin(settings):
        registry = open_registry(settings)
        registry.folder(registry.find(settings.llm_model))


def plans(settings: "Settings") -> bool:
    """Whether the model also reads questions: ``offline`` cannot, and a twin was trained to write, not to plan."""
    return settings.llm_model != OFFLINE and not is_local_twin(settings)
