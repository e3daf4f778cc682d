"""What writing sessions of both Qdrant engines do the same way: names, the check of recipes, the count of documents."""

import json
from collections.abc import Collection

from llm_engineering.adapters.qdrant_points import Points, chunk_ids
from llm_engineering.domain.config import IndexRecipe
from llm_engineering.domain.errors import IndexMismatch

REBUILD = "Build it anew from the warehouse: poe run-sync-pipeline --rebuild"
RUN_FIRST = "Run the feature pipeline first: poe run-feature-pipeline"


def watermark_name(id_: str) -> str:
    """Name under which a warehouse keeps how far the state of that id has come."""
    return f"index:{id_}"


def recipe_for_people(recipe: IndexRecipe) -> dict[str, str]:
    """The parts of a recipe as text."""
    parts = recipe.model_dump(mode="json")
    return {name: part if isinstance(part, str) else json.dumps(part) for name, part in parts.items()}


def require_same_recipe(built_with: IndexRecipe, asked: IndexRecipe, *, address: str) -> None:
    """:class:`IndexMismatch` if an index built with the one cannot be continued with the other."""
    differences = built_with.differences(asked)
    if differences:
        raise IndexMismatch(f"The index at {address} was built with another {', '.join(differences)}", hint=REBUILD)


class DocumentCount:
    """How many documents have chunks, kept by looking only at the documents that a session touches.

    ``before`` is the count at the beginning; ``None`` (an earlier session was cut short) makes the end count them all.
    """

    def __init__(self, points: Points, before: int | None) -> None:
        self._points = points
        self._before = before
        self._had: dict[str, bool] = {}

    def touch(self, document_ids: Collection[str]) -> None:
        """Remember whether these documents have chunks; call it before they are written."""
        fresh = [id_ for id_ in document_ids if id_ not in self._had]
        if fresh and self._before is not None:
            self._had |= {id_: bool(ids) for id_, ids in chunk_ids(self._points, fresh).items()}

    def touch_owners(self, chunks: Collection[str]) -> None:
        """The same for the documents of these chunks."""
        payloads = self._points.payloads(list(chunks), fields=("document_id",))
        self.touch({payload["document_id"] for payload in payloads.values()})

    def total(self) -> int:
        """Documents that have chunks now."""
        if self._before is None:
            return len(self._points.distinct("document_id"))
        has = chunk_ids(self._points, list(self._had))
        return self._before + sum(bool(has[id_]) - had for id_, had in self._had.items())
