"""The whole feature pipeline on the sample corpus: a small blog served on this machine, notes and a git repository.

Two states of the corpus, one after the other: the second run reads only what changed. Everything lives in a folder of
its own, so that the demo never touches anybody's twin.
"""

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import typer

from examples.sample import materialise, serve
from llm_engineering.domain.config import CrawlConfig, FeatureConfig, SourceConfig
from llm_engineering.settings import load_settings
from tools.ask import ask
from tools.entry import main
from tools.run import run_pipeline
from tools.search import search

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
AUTHOR = "Ada Winter"
QUESTION = "What happens to the index when a sync is killed halfway?"


@app.command()
def demo() -> None:
    """Crawl, index, search and ask the sample corpus."""
    home = load_settings().twin_home / "demo"
    for leftover in ("warehouse.sqlite", "warehouse.sqlite-wal", "warehouse.sqlite-shm"):
        (home / leftover).unlink(missing_ok=True)
    for leftover in ("index", "corpus"):
        shutil.rmtree(home / leftover, ignore_errors=True)
    corpus = (home / "corpus").resolve()
    corpus.mkdir(parents=True)
    os.environ |= {
        "TWIN_HOME": str(home),
        "WAREHOUSE_URL": str(home / "warehouse.sqlite"),
        "INDEX_URL": str(home / "index"),
        "LLM_MODEL": "offline",
        "CRAWL_ALLOW_PRIVATE": "127.0.0.1",
    }
    with serve(corpus / "site") as address:
        config = _config(address, corpus)
        _say(f"1. The sample corpus of {AUTHOR}: a blog at {address}, a folder of notes, a git repository")
        materialise("v1", corpus, base_url=address)
        run_pipeline("feature", config)
        _say("2. The same sources a while later: one article edited, one added, one removed")
        materialise("v2", corpus, base_url=address)
        run_pipeline("feature", config)
    _say(f'3. poe search "{QUESTION}"')
    search(query=QUESTION, k=2)
    _say(f'4. poe ask "{QUESTION}"')
    ask(query=QUESTION)
    _say(
        f"Everything is in {home}.\n"
        f"Open a source:     .venv/bin/python -m examples.sample v2 {home / 'corpus'} --serve {urlsplit(address).port}\n"
        f'Ask more:          TWIN_HOME={home} .venv/bin/poe ask "…"\n'
        f"In the browser:    TWIN_HOME={home} .venv/bin/poe serve\n"
        'Your own writing:  .venv/bin/poe run-feature-pipeline --author "Your Name" --source https://your.blog/feed.xml'
    )


def _config(address: str, corpus: Path) -> FeatureConfig:
    places = (f"{address}/sitemap.xml", f"{address}/feed.xml", str(corpus / "notes"), str(corpus / "repo"))
    return FeatureConfig(
        author=AUTHOR, sources=tuple(SourceConfig(at=place) for place in places), crawl=CrawlConfig(delay=0.0)
    )


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(app)
