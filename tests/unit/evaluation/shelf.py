"""Documents to evaluate against, and the hits, answers and citations that a twin might give."""

from llm_engineering.domain.answers import Answer, Citation
from llm_engineering.domain.entities import Author, Draft, Hit, Kind
from llm_engineering.domain.ports import Warehouse
from llm_engineering.evaluation.questions import Asked, Known, Place
from tests.doubles.hits import a_hit

ADA, BOB = Author.named("Ada Winter"), Author.named("Bob Ray")
LOGS = "# Logs\n\nA log only grows. Nobody may edit\nwhat stands in it."
BREAD = "Sourdough wants a warm kitchen. The starter eats flour every day."


class Shelf:
    """``write`` keeps a text under an address and returns the document's id."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        for author in (ADA, BOB):
            warehouse.save_author(author)

    def write(self, url: str, text: str, *, author: Author = ADA) -> str:
        draft = Draft(author_id=author.id, url=url, kind=Kind.ARTICLE, platform="p", title="t", text=text)
        self.warehouse.record([draft])
        return draft.document_id


def known(*documents: str, start: int | None = None, end: int | None = None) -> Known:
    return Known(places=tuple(Place(document_id=document, start=start, end=end) for document in documents))


def asked(*passages: Known, query: str = "why?", **fields: object) -> Asked:
    return Asked.model_validate({"query": query, "known": passages, **fields})


def hit(document: str, start: int = 0, end: int = 10) -> Hit:
    return a_hit(document, "x" * end, start, end, window=(start, end))


def citation(document: str, text: str, quote: str, *, marker: int = 1, revision: int = 1) -> Citation:
    start = text.index(quote)
    return Citation(
        marker=marker,
        document_id=document,
        revision=revision,
        title="t",
        url="u",
        quote=quote,
        start=start,
        end=start + len(quote),
    )


def answer(*citations: Citation, text: str | None = None) -> Answer:
    said = text if text is not None else " ".join(f"“{each.quote}” [{each.marker}]" for each in citations)
    return Answer(
        answer=said or "I don't know.", citations=citations, grounded=bool(citations), model="scripted", request_id="r"
    )
