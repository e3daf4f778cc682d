"""Ranked passages for a query, or for a file of queries."""

import json as jsonlib
import shutil
import sys
import textwrap
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from llm_engineering import bootstrap
from llm_engineering.domain.config import FeatureConfig, SearchConfig
from llm_engineering.domain.entities import Filters, Fusion, Hit, Kind
from llm_engineering.domain.errors import UsageError
from llm_engineering.rag.retrieve import author_filter, hit_json, retrieve
from llm_engineering.settings import Settings
from tools.entry import load_config, main, settings_with_logging
from tools.queries import read_queries

NUMBERS = Path("configs/feature.yaml")
SHOWN_CHARACTERS = 400

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def search(
    query: Annotated[str | None, typer.Argument(help="what to look for")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="one query per line")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output; one object per line with --file")
    ] = False,
    author: Annotated[str | None, typer.Option("--author", help="only this author (name or alias)")] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="only documents of this kind")] = None,
    platform: Annotated[str | None, typer.Option("--platform", help="only this platform, such as medium.com")] = None,
    language: Annotated[str | None, typer.Option("--language", help="only this language (ISO 639-1)")] = None,
    since: Annotated[str | None, typer.Option("--since", help="published on or after this day (YYYY-MM-DD)")] = None,
    until: Annotated[str | None, typer.Option("--until", help="published before this day (YYYY-MM-DD)")] = None,
    k: Annotated[int | None, typer.Option("--k", min=1, max=1000, help="how many passages")] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", min=0, max=1, help="weight of meaning against terms")
    ] = None,
    fusion: Annotated[Fusion | None, typer.Option("--fusion", help="how the two rankings become one")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help=f"YAML whose search section holds the defaults; {NUMBERS} if there")
    ] = None,
) -> None:
    """Search the index."""
    queries = list(read_queries(query, file, example='poe search "crash safety"'))
    settings = settings_with_logging()
    numbers = chosen_numbers(config, k=k, alpha=alpha, fusion=fusion)
    filters = Filters(
        author_id=_author(settings, author),
        kind=kind,
        platform=platform,
        language=language,
        since=_day(since),
        until=_day(until),
    )
    with bootstrap.open_index(settings) as index:
        embedder, sparse = bootstrap.open_encoders(settings, index)
        for text in queries:
            hits = retrieve(text, index=index, embedder=embedder, sparse=sparse, filters=filters, config=numbers)
            if json:
                sys.stdout.write(
                    jsonlib.dumps({"query": text, "hits": [hit_json(hit) for hit in hits]}, ensure_ascii=False) + "\n"
                )
            else:
                sys.stdout.write(_readable(text, hits, named=file is not None))


def chosen_numbers(path: Path | None, **given: object) -> SearchConfig:
    """The search section of the configuration, with what the command line says over it."""
    file = path or (NUMBERS if NUMBERS.is_file() else None)
    configured = load_config(file, FeatureConfig).search if file else SearchConfig()
    said = {name: value for name, value in given.items() if value is not None}
    if "alpha" in said:
        said["long_query"] = None  # a weight that was asked for holds for every query
    return configured.model_copy(update=said)


def _author(settings: Settings, name: str | None) -> str | None:
    """The id behind a name; without a name the warehouse is left alone."""
    if name is None:
        return None
    with bootstrap.open_warehouse(settings) as warehouse:
        return author_filter(warehouse, name)


def _day(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no day", hint="Write it as YYYY-MM-DD.") from error
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _readable(query: str, hits: list[Hit], *, named: bool) -> str:
    lines = [f"# {query}"] if named else []
    if not hits:
        lines.append("Nothing in the index matches these limits.")
    for rank, hit in enumerate(hits, start=1):
        day = f", {hit.published_at:%Y-%m-%d}" if hit.published_at else ""
        path = " › ".join(hit.heading_path)
        lines.append(f"{rank}. {hit.title} ({hit.author}{day})  score {hit.score:.3f}")
        lines.append(f"   {hit.url}")
        if path and path != hit.title:
            lines.append(f"   {path}")
        lines += [f"   {line}" for line in _beginning(hit)]
        lines.append("")
    return "\n".join(lines) + "\n"


def _beginning(hit: Hit) -> list[str]:
    """The first words of a passage in lines of the terminal's width; the heading above it is shown already."""
    first, _, rest = hit.text.lstrip().partition("\n")
    heading = first.lstrip("#").strip()
    told = first.startswith("#") and heading in (hit.title, *hit.heading_path) and rest.strip()
    text = " ".join((rest if told else hit.text).split())
    return textwrap.wrap(
        textwrap.shorten(text, SHOWN_CHARACTERS, placeholder=" …"), min(shutil.get_terminal_size().columns, 120) - 3
    )


if __name__ == "__main__":
    main(app)
