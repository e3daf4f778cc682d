"""Data exports of Medium, Substack and LinkedIn as a source."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

from llm_engineering.crawl.defects import found
from llm_engineering.crawl.export_files import ExportProblem
from llm_engineering.crawl.export_signs import Platform
from llm_engineering.crawl.exports import ExportItem, read_export
from llm_engineering.crawl.findings import Event, Finding, failed, refused
from llm_engineering.crawl.sources import Source
from llm_engineering.crawl.urls import canonical_url
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.entities import Draft
from llm_engineering.domain.errors import UsageError


def read_archive(source: Source, config: CrawlConfig) -> Iterator[Event]:
    """Every published text of an archive. What an archive lacks is not gone: the next one may come from another day."""
    for item in read_export(source.address.path or Path(), cast("Platform", source.type)):
        place = f"{source.name}/{item.path}"
        if isinstance(item, ExportProblem):
            yield failed(place, "unreadable", item.reason, remember=False)
            continue
        yield found(place, partial(_found, item, source, config), remember=False)


def _found(item: ExportItem, source: Source, config: CrawlConfig) -> Finding:
    url = _address(item, source.type)
    if item.draft:
        return refused(url, "draft", "draft: never published")
    if not source.selects(item.path):
        return refused(url, "excluded")
    if not item.text.strip():
        return refused(url, "empty")
    if len(item.text) > config.max_bytes:
        return refused(url, "too-large", f"too-large: more than {config.max_bytes:,} characters")
    return Finding(url, draft=_draft(item, source, url))


def _draft(item: ExportItem, source: Source, url: str) -> Draft:
    return Draft(
        author_id=source.author.id,
        url=url,
        kind=source.kind(item.kind),
        platform=source.platform(source.type),
        title=item.title or item.path,
        text=item.text,
        published_at=item.published_at,
        metadata={"path": item.path, **item.metadata},
    )


def _address(item: ExportItem, platform: str) -> str:
    """The text's address on the web; without one, a name that the same text has in the next archive, too.

    Line numbers of a table shift from archive to archive, so its rows are told apart by date and first words.
    """
    if item.url:
        try:
            return canonical_url(item.url)
        except UsageError:  # an archive may hold anything; the text is good without its address
            pass
    if "#" not in item.path:
        return f"urn:{platform}:{item.path.rsplit('/', 1)[-1]}"
    told_by = f"{item.published_at}\0{item.metadata.get('comment_on', '')}\0{item.title}"
    return f"urn:{platform}:{hashlib.sha256(told_by.encode('utf-8', 'replace')).hexdigest()[:32]}"
