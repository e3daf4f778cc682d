"""Composition root: the only module that knows settings and engines. Importing it loads no engine.

Which engine is used follows from an address: a path is embedded, a URL is a server.
"""

import asyncio
import itertools
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering import telemetry
from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.blind import BlindPairs
from llm_engineering.domain.chat import VERSION as PROMPTS
from llm_engineering.domain.chat import answer_prompt, writing_prompt
from llm_engineering.domain.config import (
    AnswerConfig,
    ChatConfig,
    CleanConfig,
    CrawlConfig,
    EmbeddingConfig,
    FeatureConfig,
    IndexRecipe,
    SparseConfig,
)
from llm_engineering.domain.dataset_config import PreferenceConfig
from llm_engineering.domain.entities import Chunk, DocumentState
from llm_engineering.domain.errors import IndexMismatch, IndexMissing, StoreUnavailable, UsageError
from llm_engineering.domain.ports import (
    ChatModel,
    Embedder,
    Fetcher,
    Index,
    Registry,
    Repositories,
    Reranker,
    SparseEncoder,
    Warehouse,
)
from llm_engineering.domain.registry import PREFIX
from llm_engineering.domain.review import ReviewSamples
from llm_engineering.domain.samples import PairSource
from llm_engineering.rag.window import REPLY_SHARE

if TYPE_CHECKING:
    from llm_engineering.dataset.pieces import ReadPieces
    from llm_engineering.dataset.preferences import Rival
    from llm_engineering.evaluation.twin import Scorer
    from llm_engineering.rag.twin import Twin
    from llm_engineering.settings import Settings

OFFLINE = "offline"
"""The ``LLM_MODEL`` that needs no model."""
_FRAME_TOKENS, _PASSAGE_TOKENS = 64, 48
"""What a question with its template, and the tags of a passage, take of a window."""

_log = logging.getLogger(__name__)


@contextmanager
def open_warehouse(settings: "Settings") -> Iterator[Warehouse]:
    """The warehouse at ``WAREHOUSE_URL``: SQLite for a path, MongoDB for ``mongodb://`` or ``mongodb+srv://``."""
    url = settings.warehouse_url
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from llm_engineering.adapters.mongodb import MongoWarehouse

        warehouse: Warehouse = MongoWarehouse(url, settings.warehouse_database)
    else:
        from llm_engineering.adapters.sqlite import SQLiteWarehouse

        warehouse = SQLiteWarehouse(_local(url, "WAREHOUSE_URL", "mongodb://"))
    try:
        yield warehouse
    finally:
        warehouse.close()


@contextmanager
def open_index(settings: "Settings", *, url: str | None = None) -> Iterator[Index]:
    """The index at ``INDEX_URL`` (or at ``url``): Qdrant Edge for a path, a Qdrant server for ``http(s)://``."""
    address = url or settings.index_url
    if address.startswith(("http://", "https://")):
        from llm_engineering.adapters.qdrant import QdrantServerIndex

        key = settings.index_api_key.get_secret_value() if settings.index_api_key else None
        index: Index = QdrantServerIndex(address, key, settings.index_collection)
    else:
        from llm_engineering.adapters.qdrant_edge import EdgeIndex

        index = EdgeIndex(_local(address, "INDEX_URL", "http://"))
    try:
        yield index
    finally:
        index.close()


def copy_index(source: Index, target: Index) -> int:
    """Fill ``target`` anew with everything visible in ``source``, vectors included; returns the number of chunks."""
    from llm_engineering.adapters.index_copy import copy_index as copy

    return copy(source, target)


def open_embedder(settings: "Settings", config: EmbeddingConfig, threads: int | None = None) -> Embedder:
    """The embedder named by ``EMBEDDING_MODEL`` with the numeric backend of the configuration.

    ``threads``: processor threads that OpenVINO may use; all without.
    """
    from llm_engineering.adapters.sentence_transformers import open_embedder as open_model

    return open_model(settings.embedding_model, config, cache=settings.twin_home / "models", threads=threads)


def open_sparse_encoder(config: SparseConfig) -> SparseEncoder:
    """The BM25 encoder of the configuration."""
    from llm_engineering.adapters.bm25 import Bm25Encoder

    return Bm25Encoder(config)


@contextmanager
def open_fetcher(settings: "Settings", config: CrawlConfig) -> Iterator[Fetcher]:
    """The polite HTTP client, with the exceptions of ``CRAWL_ALLOW_PRIVATE``."""
    from llm_engineering.adapters.httpx import HttpxFetcher

    token = settings.github_token.get_secret_value() if settings.github_token else None
    fetcher = HttpxFetcher(config, allow_private=settings.private_hosts, github_token=token)
    try:
        yield fetcher
    finally:
        fetcher.close()


@contextmanager
def open_browser(settings: "Settings", config: CrawlConfig) -> Iterator[Fetcher]:
    """Pages rendered by Chromium, whose every request goes through the polite client.

    Raises :class:`MissingExtra` without the extra ``browser``.
    """
    from llm_engineering.adapters.httpx import HttpxFetcher
    from llm_engineering.adapters.playwright import PlaywrightFetcher

    with HttpxFetcher(config, allow_private=settings.private_hosts) as client:
        browser = PlaywrightFetcher(client, config)
        try:
            yield browser
        finally:
            browser.close()


def open_repositories(settings: "Settings", fetcher: Fetcher) -> Repositories:
    """Git repositories, cloned only from addresses that the fetcher may contact."""
    from llm_engineering.adapters.git import GitRepositories

    token = settings.github_token.get_secret_value() if settings.github_token else None
    return GitRepositories(fetcher.addresses, github_token=token)


def chunker_for(config: FeatureConfig, embedder: Embedder) -> Callable[[DocumentState], list[Chunk]]:
    """Cleaning and chunking as configured, measured in the embedder's own tokens."""
    from llm_engineering.features.chunk import chunk

    def chunks_of(state: DocumentState) -> list[Chunk]:
        if state.revision is None:
            return []
        return chunk(
            state.revision,
            kind=state.document.kind,
            config=config.chunk,
            clean=config.clean,
            count_tokens=embedder.count_tokens,
            window=embedder.window,
        )

    return chunks_of


def language_of(text: str) -> str | None:
    """ISO 639-1 code of a text's natural language; ``None`` where it cannot be told."""
    from llm_engineering.dataset.language import language_of as detect

    return detect(text)


def recipe_for(settings: "Settings", config: FeatureConfig, embedder: Embedder, sparse: SparseEncoder) -> IndexRecipe:
    """Everything that decides what the index holds; stamped into it and compared before each sync."""
    from llm_engineering.features.chunk import chunker_fingerprint

    return IndexRecipe(
        model=settings.embedding_model,
        embedder=embedder.fingerprint,
        dimensions=embedder.dimensions,
        embedding=config.embedding,
        sparse=config.sparse,
        sparse_encoder=sparse.fingerprint,
        chunker=chunker_fingerprint(config.chunk, config.clean, embedder.window),
    )


def open_encoders(settings: "Settings", index: Index, threads: int | None = None) -> tuple[Embedder, SparseEncoder]:
    """The encoders that fit the visible index, for querying it. ``threads`` as for :func:`open_embedder`.

    Raises :class:`IndexMissing` without an index, :class:`IndexMismatch` if ``EMBEDDING_MODEL`` is another model now.
    """
    recipe = index.recipe()
    if recipe is None:
        raise IndexMissing(
            f"There is no index at {index.status().address} yet",
            hint="Run the feature pipeline first: poe run-feature-pipeline",
        )
    embedder = open_embedder(settings, recipe.embedding, threads)
    sparse = open_sparse_encoder(recipe.sparse)
    if embedder.fingerprint != recipe.embedder:
        raise IndexMismatch(
            f"The index was built with {recipe.model} as it was then; EMBEDDING_MODEL is {settings.embedding_model} now",
            hint="Set EMBEDDING_MODEL back, or rebuild: poe run-sync-pipeline --rebuild",
        )
    if sparse.fingerprint != recipe.sparse_encoder:
        raise IndexMismatch(
            "The index was built with another version of the term encoder",
            hint="Rebuild it, which embeds nothing again: poe run-sync-pipeline --rebuild",
        )
    return embedder, sparse


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


def training_folder(settings: "Settings") -> Path:
    """Where training runs are kept: one folder for each recipe and dataset."""
    return settings.twin_home / "training"


@contextmanager
def open_scorer(place: str, *, revision: str | None = None) -> Iterator["Scorer"]:
    """Log-probabilities under the model in a folder, or the base of that name at that revision; prompts are rendered as
    training renders them.
    """
    from llm_engineering.adapters.transformers_scores import LocalScores
    from llm_engineering.evaluation.twin import Scorer
    from llm_engineering.training.render import encoded, render

    scores = LocalScores(place, revision=revision)

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


def open_registry(settings: "Settings") -> Registry:
    """The trained models in ``TWIN_HOME``."""
    from llm_engineering.adapters.registry_folder import FolderRegistry

    return FolderRegistry(settings.twin_home / "models-registry")


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


def fitted(config: AnswerConfig, model: ChatModel) -> AnswerConfig:
    """The numbers of answering, with no more passages than the model's window holds, where it is known."""
    window = getattr(model, "window", None)
    if window is None:
        return config
    frames = (answer_prompt("", author="", passages=()), writing_prompt("", author="", passages=()))
    frame = max(sum(model.count_tokens(message.content) for message in prompt.messages) for prompt in frames)
    room = window - window // REPLY_SHARE - frame - _FRAME_TOKENS
    k = max(1, min(config.k, room // (3 * _PASSAGE_TOKENS)))
    tokens = max(64, room - k * _PASSAGE_TOKENS)
    if tokens >= config.context_tokens:
        return config
    _log.info("%s reads %d tokens: at most %d passages of %d tokens in all are shown", model.name, window, k, tokens)
    return config.model_copy(update={"context_tokens": tokens, "k": k, "style_examples": 0})


def check_threshold(index: Index, config: AnswerConfig) -> None:
    """Warn where a threshold is set, and the index was built with a model for which confidence was not calibrated."""
    from llm_engineering.rag.confidence import FITTED_FOR, holds_for

    recipe = index.recipe()
    if config.threshold > 0 and recipe is not None and not holds_for(recipe.model):
        _log.warning(
            "confidence was calibrated for %s, but the index is of %s: threshold %s may decline or answer too much; "
            "choose it as docs/operations.md says, or set it to 0",
            FITTED_FOR, recipe.model, config.threshold,
        )  # fmt: skip


@asynccontextmanager
async def open_twin(settings: "Settings", config: AnswerConfig) -> AsyncIterator["Twin"]:
    """Everything that answering needs, opened and closed together.

    Raises :class:`IndexMissing` and :class:`IndexMismatch` like :func:`open_encoders`.
    """
    from llm_engineering.rag.twin import Twin

    with ExitStack() as stores:
        warehouse = stores.enter_context(open_warehouse(settings))
        index = stores.enter_context(open_index(settings))
        embedder, sparse = open_encoders(settings, index)
        check_threshold(index, config)

        def terms(text: str) -> Sequence[int]:
            return sparse.encode_query(text).indices

        model = await asyncio.to_thread(
            open_chat_model, settings, config.chat, embed=embedder.embed_passages, terms=terms
        )
        try:
            yield Twin(
                warehouse=warehouse,
                index=index,
                embedder=embedder,
                sparse=sparse,
                model=model,
                endpoint=settings.llm_base_url if plans(settings) else "",
                planner=model if plans(settings) else None,
                reranker=await asyncio.to_thread(open_reranker, settings),
                config=fitted(config, model),
                span=telemetry.span,
            )
        finally:
            await model.close()


def prepare_home(settings: "Settings") -> Path:
    """Create ``TWIN_HOME`` and see that it can be written to; :class:`StoreUnavailable` if it cannot."""
    home = settings.twin_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreUnavailable(
            f"TWIN_HOME {home} cannot be written to: {error.strerror or error}",
            hint="Make the folder writable, free space on its disk, or set TWIN_HOME to another folder.",
        ) from error
    free = shutil.disk_usage(home).free
    if free < 10_000_000:
        raise StoreUnavailable(
            f"The disk of TWIN_HOME {home} is full ({free / 1e6:.1f} MB left)",
            hint="Free space, or set TWIN_HOME to another disk.",
        )
    return home


def _local(address: str, variable: str, server: str) -> Path:
    """A path from an address, refusing URLs of engines that we do not have."""
    if "://" in address and not address.startswith("file://"):
        raise UsageError(
            f"{variable} is neither a path nor a {server}… address: {address.split('://')[0]}://…",
            hint="See .env.example.",
        )
    return Path(address.removeprefix("file://")).expanduser()


def reader_for(config: FeatureConfig) -> Callable[[DocumentState], str]:
    """The reading view of a document: the author's text without boilerplate."""
    from llm_engineering.features.chunk import reading_text
    from llm_engineering.features.clean import reading_spans

    def read(state: DocumentState) -> str:
        if state.revision is None:
            return ""
        text = state.revision.text
        return reading_text(text, reading_spans(text, format=state.revision.format, config=config.clean))

    return read


def pieces_for(clean: CleanConfig) -> "ReadPieces":
    """The blocks of a document without the page's furniture, as the dataset stage reads them."""
    from llm_engineering.dataset.pieces import Piece, PieceKind
    from llm_engineering.features.clean import reading_spans
    from llm_engineering.features.normalise import normalise
    from llm_engineering.features.structure import blocks

    def read(state: DocumentState) -> list[Piece]:
        if state.revision is None:
            return []
        text, format = state.revision.text, state.revision.format
        structure = blocks(text, format=format)
        view = normalise(text, format=format, structure=structure)
        pieces: list[Piece] = []
        spans = iter(reading_spans(text, format=format, config=clean, structure=structure, view=view))
        span = next(spans, None)
        reached = 0
        for block in structure:
            while span is not None and span.end <= block.start:
                reached, span = span.end, next(spans, None)
            position = block.start
            while span is not None and span.start < block.end:
                start, end = max(span.start, position), min(span.end, block.end)
                lines = text[start:end].splitlines(keepends=True)
                blank = sum(len(line) for line in itertools.takewhile(lambda line: not line.strip(), lines))
                inner = text[start + blank : end].rstrip()
                if inner:
                    pieces.append(
                        Piece(
                            start + blank,
                            start + blank + len(inner),
                            PieceKind(block.kind.value),
                            " ".join(view.between(start, end).split()),
                            level=block.level,
                            broken=span.start > reached and span.start >= position,
                        )
                    )
                if span.end > block.end:
                    break
                position, reached, span = span.end, span.end, next(spans, None)
        return pieces

    return read


def open_blind_pairs(settings: "Settings") -> BlindPairs:
    """The pairs that people compare blind, in ``TWIN_HOME/blind``; nothing is opened or made yet."""
    from llm_engineering.adapters.blind_folder import BlindFolder

    return BlindFolder(settings.twin_home / "blind")


def datasets_folder(settings: "Settings") -> Path:
    """Where datasets are kept: one folder for each name, in it one for each version."""
    return settings.twin_home / "datasets"


def open_review_samples(settings: "Settings") -> ReviewSamples:
    """The samples that people review, in ``TWIN_HOME/datasets``; nothing is opened yet."""
    from llm_engineering.adapters.dataset_folder import DatasetFolder

    return DatasetFolder(datasets_folder(settings))


def push_dataset(settings: "Settings", folder: Path, repository: str) -> str:
    """Upload a dataset's folder to ``repository`` on the Hugging Face Hub, and return its address there."""
    from llm_engineering.adapters.huggingface_hub import push_folder

    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return push_folder(folder, repository, token=token)
