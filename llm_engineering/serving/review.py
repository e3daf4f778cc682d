"""Review in the browser: the samples of the current dataset, and what people decide about them, kept in the warehouse."""

import asyncio
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import RedirectResponse, Response

from llm_engineering.domain.entities import Kind, TombstoneReason
from llm_engineering.domain.errors import UnknownDocument
from llm_engineering.domain.review import ReviewFilter, ReviewPage, Shown, Verdict, Wanted
from llm_engineering.domain.samples import Decision, InstructionStyle, Origin, Sample, Split
from llm_engineering.serving.asking import id_of
from llm_engineering.serving.people import add_page_at, in_json
from llm_engineering.serving.problems import ProblemResponse
from llm_engineering.serving.service import Review
from llm_engineering.serving.shapes import WITH_A_WORD, ProblemDetail, RequestId, Shape

PATH = "/review"
MAX_INSTRUCTION = 4000
_PERSON = "person"
_CONTENT: dict[str, object] = {"application/problem+json": {}}
_NO_DATASET = {"model": ProblemDetail, "description": "No such dataset.", "content": _CONTENT}
_NO_SAMPLE = {
    "model": ProblemDetail,
    "description": "No such sample, or its document was withdrawn.",
    "content": _CONTENT,
}

DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class ReviewedSample(BaseModel):
    """A sample, where its answer stands, and what was decided about it."""

    id: str
    split: Split
    style: InstructionStyle
    origin: Origin
    instruction: str
    """As the next build has it."""
    original: str | None
    """What a decision replaced, until the dataset is built again."""
    written_by: str
    answer: str
    author: str
    title: str
    url: str
    kind: Kind
    published_at: str | None
    heading_path: list[str]
    masked: int
    verdict: Verdict | None


class Progress(BaseModel):
    """How far the review of a dataset is."""

    total: int
    decided: dict[Verdict, int]


class ReviewedSamples(BaseModel):
    """A page of samples; without a dataset an empty one whose ``dataset`` is null."""

    dataset: str | None
    datasets: list[str]
    version: str
    progress: Progress
    samples: list[ReviewedSample]
    withheld: int
    """Samples of this page whose document was withdrawn: the next build drops them."""
    next: int | None


class KeepOrRefuse(Shape):
    """The sample stays as it is shown, or goes with the next build."""

    dataset: DatasetName
    sample_id: RequestId
    verdict: Literal["keep", "refuse"]


class Edit(Shape):
    """The sample gets a person's instruction with the next build. Its answer is never edited."""

    dataset: DatasetName
    sample_id: RequestId
    verdict: Literal["edit"]
    instruction: Annotated[str, StringConstraints(max_length=MAX_INSTRUCTION, pattern=WITH_A_WORD)]


class Decided(BaseModel):
    """The sample as it is kept, and how far the review is with it."""

    sample: ReviewedSample
    progress: Progress


class _Search(Shape):
    """What to show."""

    dataset: DatasetName | None = None
    verdict: Wanted | None = None
    style: InstructionStyle | None = None
    split: Split | None = None
    text: Annotated[str, StringConstraints(max_length=200)] = ""
    after: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    limit: Annotated[int, Field(ge=1, le=100)] = 20

    def filter(self) -> ReviewFilter:
        return ReviewFilter(verdict=self.verdict, style=self.style, split=self.split, text=self.text)


def add_review(app: FastAPI, review: Review) -> None:
    """The page at ``/review/``, open like the other pages; its requests pass the same gate as every other."""

    @app.get(PATH, include_in_schema=False)
    async def to_page() -> Response:
        return RedirectResponse("review/", status_code=308)  # relative: it holds behind a proxy's prefix, too

    add_page_at(app, f"{PATH}/", file="review.html")

    @app.get(f"{PATH}/samples", response_model=ReviewedSamples, responses={404: _NO_DATASET})
    async def samples(request: Request, search: Annotated[_Search, Query()]) -> Response:
        """Samples of the current version of a dataset, in its order; of the newest dataset where none is named."""
        found = await asyncio.to_thread(_page, review, search)
        if found is None:
            detail = "There is no dataset of that name. Build it: poe run-dataset-pipeline"
            return ProblemResponse(404, "unknown-dataset", detail, request_id=id_of(request))
        return in_json(found)

    @app.post(f"{PATH}/decisions", response_model=Decided, responses={404: _NO_SAMPLE})
    async def decide(
        request: Request, body: Annotated[KeepOrRefuse | Edit, Field(discriminator="verdict")]
    ) -> Response:
        """Keep, edit or refuse a sample; a later decision takes the place of the first. The next build follows it."""
        try:
            decided = await asyncio.to_thread(_decide, review, body)
        except UnknownDocument:
            detail = "The document of that sample was withdrawn. The next build drops it: poe run-dataset-pipeline"
            return ProblemResponse(404, "withdrawn", detail, request_id=id_of(request))
        if decided is None:
            detail = "The current dataset has no such sample: it was built again since. Load the page anew."
            return ProblemResponse(404, "unknown-sample", detail, request_id=id_of(request))
        return in_json(decided)


def _page(review: Review, search: _Search) -> ReviewedSamples | None:
    names = review.samples.datasets()
    name = search.dataset or next(iter(names), None)
    if name is None:
        none = Progress(total=0, decided={})
        return ReviewedSamples(
            dataset=None, datasets=[], version="", progress=none, samples=[], withheld=0, next=None
        )  # fmt: skip
    decisions = _decisions(review)
    page = review.samples.page(name, search.filter(), decisions=decisions, after=search.after, limit=search.limit)
    if page is None:
        return None
    withdrawn = _withdrawn(review, page)
    return ReviewedSamples(
        dataset=name,
        datasets=names,
        version=page.version,
        progress=_progress(page),
        samples=[
            _reviewed(shown, decisions.get(shown.sample.id))
            for shown in page.shown
            if shown.sample.provenance.document_id not in withdrawn
        ],
        withheld=sum(shown.sample.provenance.document_id in withdrawn for shown in page.shown),
        next=page.next,
    )


def _decide(review: Review, body: KeepOrRefuse | Edit) -> Decided | None:
    shown = review.samples.find(body.dataset, body.sample_id)
    if shown is None:
        return None
    decisions = _decisions(review)
    decision = _decision(body, shown.sample, decisions.get(shown.sample.id))
    review.warehouse.save_decision(decision)
    decisions[shown.sample.id] = decision
    page = review.samples.page(body.dataset, ReviewFilter(), decisions=decisions, after=0, limit=1)
    progress = _progress(page) if page else Progress(total=0, decided={})
    return Decided(sample=_reviewed(shown, decision), progress=progress)


def _decision(body: KeepOrRefuse | Edit, sample: Sample, standing: Decision | None) -> Decision:
    """What to keep. An instruction that a person wrote is kept with its words: the rules would write theirs again."""
    verdict: Verdict = body.verdict
    instruction = body.instruction.strip() if isinstance(body, Edit) else None
    if verdict == "keep" and standing is not None and standing.verdict == "edit":
        verdict, instruction = "edit", standing.instruction
    elif verdict == "keep" and sample.written_by == _PERSON:
        verdict, instruction = "edit", sample.instruction
    return Decision(
        sample_id=sample.id,
        verdict=verdict,
        instruction=instruction,
        document_ids=(sample.provenance.document_id,),
    )


def _decisions(review: Review) -> dict[str, Decision]:
    return {decision.sample_id: decision for decision in review.warehouse.decisions()}


def _withdrawn(review: Review, page: ReviewPage) -> set[str]:
    """Documents whose text nobody may see any more, though it is in the dataset until the next build."""
    ids = sorted({shown.sample.provenance.document_id for shown in page.shown})
    states = review.warehouse.state(ids)
    withdrawn = {
        identity
        for identity, state in states.items()
        if state.tombstone is not None and state.tombstone.reason is TombstoneReason.WITHDRAWN
    }
    return withdrawn | (set(ids) - set(states))


def _progress(page: ReviewPage) -> Progress:
    return Progress(total=page.total, decided=page.decided)


def _reviewed(shown: Shown, decision: Decision | None) -> ReviewedSample:
    sample, where = shown.sample, shown.sample.provenance
    edited = decision.instruction if decision is not None and decision.verdict == "edit" else None
    is_new = edited is not None and edited != sample.instruction
    return ReviewedSample(
        id=sample.id,
        split=shown.split,
        style=sample.style,
        origin=sample.origin,
        instruction=edited or sample.instruction,
        original=sample.instruction if is_new else None,
        written_by=_PERSON if edited else sample.written_by,
        answer=sample.answer,
        author=where.author,
        title=where.title,
        url=where.url,
        kind=where.kind,
        published_at=where.published_at.isoformat() if where.published_at else None,
        heading_path=list(where.heading_path),
        masked=sample.masked,
        verdict=decision.verdict if decision else None,
    )
