"""The last net of a crawl: what a parser raises over one page, file or entry costs that one, never the run."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llm_engineering.crawl.findings import Finding, from_error
from llm_engineering.domain.errors import FetchFailed, TwinError

_log = logging.getLogger(__name__)


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Turn an exception that nobody expected into a :class:`FetchFailed` that names it (reason ``parser-error``).

    The log gets its trace. Our own errors pass through as they are.
    """
    try:
        yield
    except TwinError:
        raise
    except Exception as error:  # people's files and pages hold anything, and a parser's defect shows as any exception
        _log.exception("A parser failed on %s", ascii(what))
        said = " ".join(str(error).split())[:200]
        name = type(error).__name__
        raise FetchFailed(
            f"{what} could not be read: {name}{f' ({said})' if said else ''}", reason="parser-error"
        ) from error


def found(url: str, read: Callable[[], Finding], *, remember: bool = True) -> Finding:
    """What ``read`` finds at an address, or the line that its error becomes."""
    try:
        with contained(url):
            return read()
    except TwinError as error:
        return from_error(url, error, remember=remember)
