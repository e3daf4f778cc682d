"""Everything that answering needs, opened together."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from llm_engineering import telemetry
from llm_engineering.bootstrap.encoders import open_encoders
from llm_engineering.bootstrap.models import open_chat_model, open_reranker, plans
from llm_engineering.bootstrap.stores import open_index, open_warehouse
from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.ports import Index
from llm_engineering.rag.window import fitted

if TYPE_CHECKING:
    from llm_engineering.rag.twin import Twin
    from llm_engineering.settings import Settings

_log = logging.getLogger(__name__)


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
