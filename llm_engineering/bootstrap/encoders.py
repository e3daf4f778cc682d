"""What turns texts into vectors, and the recipe that says which."""

from typing import TYPE_CHECKING

from llm_engineering.domain.config import EmbeddingConfig, FeatureConfig, IndexRecipe, SparseConfig
from llm_engineering.domain.errors import IndexMismatch, IndexMissing
from llm_engineering.domain.ports import Embedder, Index, SparseEncoder

if TYPE_CHECKING:
    from llm_engineering.settings import Settings


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
