"""Composition root: the only package that knows settings and engines. Importing it loads no engine.

Which engine is used follows from an address: a path is embedded, a URL is a server.
"""

from llm_engineering.bootstrap.encoders import open_embedder, open_encoders, open_sparse_encoder, recipe_for
from llm_engineering.bootstrap.models import (
    OFFLINE,
    common_quantization,
    is_local_twin,
    open_chat_model,
    open_local_model,
    open_reranker,
    open_rivals,
    open_scorer,
    plans,
    require_local_twin,
)
from llm_engineering.bootstrap.reading import chunker_for, language_of, pieces_for, reader_for
from llm_engineering.bootstrap.sources import open_browser, open_fetcher, open_repositories
from llm_engineering.bootstrap.stores import (
    copy_index,
    datasets_folder,
    open_blind_pairs,
    open_index,
    open_registry,
    open_review_samples,
    open_warehouse,
    prepare_home,
    push_dataset,
    training_folder,
)
from llm_engineering.bootstrap.twin import check_threshold, open_twin

__all__ = [
    "OFFLINE",
    "check_threshold",
    "chunker_for",
    "common_quantization",
    "copy_index",
    "datasets_folder",
    "is_local_twin",
    "language_of",
    "open_blind_pairs",
    "open_browser",
    "open_chat_model",
    "open_embedder",
    "open_encoders",
    "open_fetcher",
    "open_index",
    "open_local_model",
    "open_registry",
    "open_repositories",
    "open_reranker",
    "open_review_samples",
    "open_rivals",
    "open_scorer",
    "open_sparse_encoder",
    "open_twin",
    "open_warehouse",
    "pieces_for",
    "plans",
    "prepare_home",
    "push_dataset",
    "reader_for",
    "recipe_for",
    "require_local_twin",
    "training_folder",
]
