"""What the readers of sources hand to the ledger."""

import re
from dataclasses import dataclass, replace

from llm_engineering.domain.entities import Draft, LinkOutcome
from llm_engineering.domain.errors import FetchFailed, FetchRefused, TwinError

_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a reader found out about one link: a draft of its text, or an outcome without one.

    ``listed`` is false for what is no document of its source any more (an unpublished draft, an excluded file): if the
    source was read completely, a document that was kept of it is gone. ``remember`` is false for remarks that leave no
    fetch state behind, ``quiet`` is true for fetch states that are no line of the report. ``mark`` is kept as the
    detail of a link that leads to a document.
    """

    url: str
    outcome: LinkOutcome | None = None
    draft: Draft | None = None
    document_id: str | None = None
    """The document that a link without a draft leads to."""
    detail: str = ""
    reason: str = ""
    moved: bool = False
    """The server says that the link has moved for good to the draft's address."""
    mark: str = ""
    status: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    listed: bool = True
    remember: bool = True
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Complete:
    """The source was listed from beginning to end: a known document that was not found is gone."""


Event = Finding | Complete | TwinError
"""An error as an event says that the source as a whole could not be read (further)."""


def refused(url: str, reason: str, detail: str = "", *, listed: bool = True, remember: bool = True) -> Finding:
    """We decline to keep this link, for a reason."""
    return Finding(url, LinkOutcome.REFUSED, reason=reason, detail=detail or reason, listed=listed, remember=remember)


def failed(url: str, reason: str, detail: str = "", *, remember: bool = True) -> Finding:
    """The link could not be read; what is known of it stays as it is."""
    return Finding(url, LinkOutcome.FAILED, reason=reason, detail=detail or reason, remember=remember)


def from_error(url: str, error: TwinError, *, remember: bool = True) -> Finding:
    """The line that an error on one link becomes."""
    if isinstance(error, FetchRefused):
        return refused(url, error.reason, str(error), remember=remember)
    reason = error.reason if isinstance(error, FetchFailed) else "unreadable"
    return failed(url, reason, str(error), remember=remember)


def shown(text: str) -> str:
    """What people read: a lone surrogate, such as a byte of a file name that is not UTF-8, has no way to a terminal."""
    return _SURROGATE.sub("\ufffd", text)


def legible(finding: Finding) -> Finding:
    """The finding as it can be shown. Its text stays as it was written, and so does the address of a document."""
    if (draft := finding.draft) is None:
        return replace(finding, url=shown(finding.url), detail=shown(finding.detail))
    metadata = {shown(name): shown(value) for name, value in draft.metadata.items()}
    return replace(finding, draft=draft.model_copy(update={"title": shown(draft.title), "metadata": metadata}))
