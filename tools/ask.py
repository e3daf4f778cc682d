"""An answer from the author's writings with its sources, for one question or a file of them."""

import asyncio
import json as jsonlib
import sys
import uuid
from pathlib import Path
from typing import Annotated

import typer

from llm_engineering import bootstrap
from llm_engineering.domain.answers import Answer, Question
from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.ports import Warehouse
from llm_engineering.rag.answer import answer
from llm_engineering.rag.retrieve import author_filter
from llm_engineering.settings import Settings
from tools.entry import load_config, main, settings_with_logging
from tools.queries import read_queries

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
DEFAULT = Path("configs/inference.yaml")


@app.command()
def ask(
    query: Annotated[str | None, typer.Argument(help="what to ask")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="one question per line")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output; one object per line with --file")
    ] = False,
    author: Annotated[str | None, typer.Option("--author", help="only this author (name or alias)")] = None,
    k: Annotated[int | None, typer.Option("--k", min=1, max=100, help="how many passages may be shown")] = None,
    config: Annotated[Path, typer.Option("--config", help="YAML with the numbers of answering")] = DEFAULT,
) -> None:
    """Ask the twin."""
    questions = [
        Question(query=text, author=author, k=k)
        for text in read_queries(query, file, example='poe ask "why tombstones?"')
    ]
    numbers = load_config(config, AnswerConfig)
    settings = settings_with_logging()
    with bootstrap.open_warehouse(settings) as warehouse:
        author_filter(warehouse, author)
    asyncio.run(_ask(questions, settings, numbers, json=json, named=file is not None))


async def _ask(questions: list[Question], settings: Settings, config: AnswerConfig, *, json: bool, named: bool) -> None:
    async with bootstrap.open_twin(settings, config) as twin:
        for question in questions:
            given = await answer(question, twin, request_id=uuid.uuid4().hex)
            if json:
                content = given.model_dump(mode="json") | ({"query": question.query} if named else {})
                sys.stdout.write(jsonlib.dumps(content, ensure_ascii=False) + "\n")
            else:
                heading = f"# {question.query}\n\n" if named else ""
                sys.stdout.write(heading + readable(given, twin.warehouse))
            sys.stdout.flush()


def readable(given: Answer, warehouse: Warehouse) -> str:
    """The answer, then its sources by number: title, date, address and the quoted words."""
    lines = [given.answer, ""]
    states = warehouse.state(list({citation.document_id for citation in given.citations}))
    known: set[int] = set()
    for citation in given.citations:
        if citation.marker not in known:
            known.add(citation.marker)
            state = states.get(citation.document_id)
            published = state.revision.published_at if state and state.revision else None
            day = f", {published:%Y-%m-%d}" if published else ""
            lines += [f"[{citation.marker}] {citation.title}{day}", f"    {citation.url}"]
        lines.append(f"    “{' '.join(citation.quote.split())}”")
    if given.citations:
        lines.append("")
    lines += [f"({note})" for note in given.usage.notes]
    lines.append(f"Answered by {given.model} in {_seconds(given)} s.")
    return "\n".join(lines) + "\n"


def _seconds(given: Answer) -> str:
    return f"{sum(given.usage.stages.values()) / 1000:.1f}"


if __name__ == "__main__":
    main(app)
