"""Whether answers rest on what they cite: known passages cited, every citation true, silence where nothing answers."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence

from llm_engineering.domain.answers import Answer, Citation
from llm_engineering.domain.entities import DocumentState, Frozen
from llm_engineering.domain.errors import ModelReplyInvalid, PromptTooLong, UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import Warehouse
from llm_engineering.evaluation.at_once import for_each
from llm_engineering.evaluation.intervals import interval
from llm_engineering.evaluation.questions import Asked, Origin
from llm_engineering.evaluation.report import Figure, Part

Ask = Callable[[Asked], Awaitable[Answer]]
"""One question to the twin. :class:`UsageError`, :class:`PromptTooLong` and :class:`ModelReplyInvalid` concern it alone."""

NAME = "Grounded answers"
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_MARKER = re.compile(r"\[(\d{1,4})\](?!\()")


class Judged(Frozen):
    """What became of one question. Shares are of the answer's citations, and of the known documents and passages."""

    query: str
    author: str | None
    origin: Origin
    retrieved: bool | None = None
    """Whether a known document was among the hits that answering starts from; ``None`` where none is known."""
    grounded: bool = False
    model: str = ""
    citations: int = 0
    relevant: int = 0
    """Citations of a known document."""
    documents: float | None = None
    """Share of the known documents that are cited."""
    passages: float | None = None
    """Share of the known passages that are cited; ``None`` where their words are not known."""
    wrong: tuple[str, ...] = ()
    """Citations that are not true now, and markers without a citation: why, one line each."""
    removed: int = 0
    """Citations of the model that answering itself took out, because they could not be verified."""
    failed: str = ""
    """Why there is no answer."""


async def ask_all(
    asked: Sequence[Asked],
    ask: Ask,
    *,
    warehouse: Warehouse,
    retrieved: Sequence[bool | None],
    concurrency: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Judged]:
    """Ask every question and judge each answer against the warehouse as it is right after. A model that is down ends it."""

    async def one_answer(question: tuple[Asked, bool | None]) -> Judged:
        one, found = question
        try:
            given = await ask(one)
        except (UsageError, PromptTooLong, ModelReplyInvalid) as error:
            return _blank(one, found).model_copy(update={"failed": str(error)})
        return await asyncio.to_thread(judge, one, given, warehouse=warehouse, retrieved=found)

    questions = list(zip(asked, retrieved, strict=True))
    return await for_each(questions, one_answer, concurrency=concurrency, progress=progress)


def judge(one: Asked, given: Answer, *, warehouse: Warehouse, retrieved: bool | None = None) -> Judged:
    """Compare an answer with the known passages, and each of its citations with the warehouse."""
    states = warehouse.state(list({citation.document_id for citation in given.citations}))
    wrong = [reason for citation in given.citations if (reason := untrue(citation, states.get(citation.document_id)))]
    cited = {citation.marker for citation in given.citations}
    markers = sorted({int(marker) for marker in _MARKER.findall(_CODE.sub(" ", given.answer))})
    wrong += [f"[{marker}] has no citation" for marker in markers if marker not in cited]
    documents = {citation.document_id for citation in given.citations}
    quoted = [known for known in one.known if known.quoted]
    return _blank(one, retrieved).model_copy(
        update={
            "grounded": given.grounded,
            "model": given.model,
            "citations": len(given.citations),
            "relevant": sum(citation.document_id in one.document_ids for citation in given.citations),
            "documents": _share([bool(copies & documents) for copies in one.documents]),
            "passages": _share(
                [
                    any(
                        place.overlaps(each.document_id, each.start, each.end)
                        for place in known.places
                        for each in given.citations
                    )
                    for known in quoted
                ]
            ),
            "wrong": tuple(wrong),
            "removed": given.removed_markers,
        }
    )


def untrue(citation: Citation, state: DocumentState | None) -> str:
    """Why a citation is not true of the warehouse's document; empty if it is."""
    words = " ".join(citation.quote.encode("utf-8", "replace").decode("utf-8").split())
    told = f"[{citation.marker}] “{words[:80]}”"
    if state is None:
        return f"{told}: no such document"
    if not state.live or state.revision is None:
        return f"{told}: the document is deleted"
    if state.revision.number != citation.revision:
        return f"{told}: the document has another revision now"
    if not citation.quote.strip() or state.revision.text[citation.start : citation.end] != citation.quote:
        return f"{told}: these words do not stand there"
    return ""


def groundedness(judged: Sequence[Judged], *, config: EvaluationConfig) -> Part:
    """The figures over all questions. An answer that was not given counts as citing nothing; a failed question not at all."""
    answered = [one for one in judged if not one.failed]
    known = [one for one in answered if one.origin is Origin.KNOWN]
    found = [one for one in known if one.retrieved]
    spoken = [one for one in known if one.citations]
    negatives = {
        origin: [one for one in answered if one.origin is origin] for origin in (Origin.ABSENT, Origin.OTHER_AUTHOR)
    }

    def figure(name: str, over: str, values: Sequence[float]) -> Figure:
        return Figure(name=name, over=over, interval=interval(values, config=config))

    figures = [
        figure(
            "cites a known document",
            "questions whose document was retrieved",
            [float(one.relevant > 0) for one in found],
        ),
        figure("answered", "questions with known passages", [float(one.grounded) for one in known]),
        figure("citation precision", "answers with citations", [one.relevant / one.citations for one in spoken]),
        figure(
            "citation recall, documents", "questions with known passages", _known_shares(one.documents for one in known)
        ),
        figure(
            "citation recall, passages", "questions with known passages", _known_shares(one.passages for one in known)
        ),
        *(
            figure(f"declined: {origin.value}", "questions", [float(not one.grounded) for one in members])
            for origin, members in negatives.items()
            if members
        ),
    ]
    findings = {
        "Wrong or invented citations": tuple(f"{one.query}: {'; '.join(one.wrong)}" for one in answered if one.wrong),
        "Retrieved, and nothing of it cited": tuple(
            f"{one.query} ({'cited others' if one.citations else 'declined'})" for one in found if not one.relevant
        ),
        "Answered, although nothing is known to answer it": tuple(
            f"{one.query} ({one.origin.value}{f', asked of {one.author}' if one.author else ''})"
            for one in answered
            if one.grounded and one.origin is not Origin.KNOWN
        ),
        "Failed": tuple(f"{one.query}: {one.failed}" for one in judged if one.failed),
    }
    return Part(
        name=NAME,
        figures=tuple(figures),
        counts={
            "questions asked": len(judged),
            "citations": sum(one.citations for one in answered),
            "wrong or invented citations": sum(len(one.wrong) for one in answered),
            "citations taken out before the answer was given": sum(one.removed for one in answered),
            "failed": len(judged) - len(answered),
        },
        notes=(
            "A citation counts as precise if it stands in a known document; other documents may answer too.",
            *(
                ["An author may well answer another author's question; read those that were answered."]
                if negatives[Origin.OTHER_AUTHOR]
                else []
            ),
        ),
        findings={happened: questions for happened, questions in findings.items() if questions},
        rows=tuple(one.model_dump(mode="json") for one in judged),
    )


def _blank(one: Asked, retrieved: bool | None) -> Judged:
    return Judged(query=one.query, author=one.author, origin=one.origin, retrieved=retrieved)


def _known_shares(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
