"""One error tree: whoever can act catches :class:`TwinError`, everything else is a defect.

::

    TwinError                    the run failed                           exit 1
    ├── UsageError               bad usage, input or configuration        exit 2
    │   ├── MissingExtra         an optional engine is not installed
    │   ├── UnknownAuthor        no author of that name in the warehouse
    │   ├── UnknownDocument      no document of that id or address
    │   └── IndexMismatch        the index was built by another recipe
    ├── SourceError              a source as a whole cannot be read
    │   ├── FetchRefused         we will not fetch it: unsafe, forbidden, too large
    │   └── FetchFailed          it could not be fetched: network, server, time
    ├── StoreError               the warehouse or the index cannot do it
    │   ├── StoreLocked          another process holds it
    │   ├── StoreUnavailable     not reachable, not writable, disk full
    │   └── IndexMissing         nothing has been indexed yet
    ├── EmbeddingError           the embedding model failed
    ├── DatasetError             training data cannot be built, kept or found
    │   └── DatasetLeak          the audit found held-out text on a side that is trained on
    ├── TrainingError            a training run failed: diverged, out of memory
    │   └── ParityFailed         an exported model does not say what the trained one says
    └── ModelError               the chat model failed
        ├── ModelUnavailable     down, refusing, too slow
        ├── PromptTooLong        what it was to read does not fit its window
        ├── ModelReplyInvalid    its reply is of no use
        └── PassageNotSeen       the text that it was to read never reached it
"""

from pydantic import ValidationError


class TwinError(Exception):
    """Root of every error that this product raises on purpose.

    ``message`` says what and where in one line; ``hint`` says what to do about it.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message.rstrip('.')}. {hint}".strip() if hint else message)
        self.message = message
        self.hint = hint


class UsageError(TwinError):
    """The caller asked for something that cannot be done: exit status 2."""

    exit_status = 2


class MissingExtra(UsageError):
    """An optional engine is not installed; the hint names the extra that brings it."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"{package} is not installed", hint=f"Install it with: pip install 'llm-engineering[{extra}]'")
        self.extra = extra


class UnknownAuthor(UsageError):
    """No author of that name or alias is in the warehouse."""


class UnknownDocument(UsageError):
    """No document of that id, URL or path is in the warehouse."""


class IndexMismatch(UsageError):
    """The index was built with another embedder, sparse encoder or chunker than the one asked for."""


class SourceError(TwinError):
    """A source (feed, sitemap, repository, folder, export) cannot be read as a whole."""


class FetchRefused(SourceError):
    """We decline to fetch it; ``reason`` is a short stable word for reports, such as ``robots`` or ``private-address``."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class FetchFailed(SourceError):
    """Fetching was tried and failed; ``reason`` is a short stable word such as ``timeout``, ``dns`` or ``http-503``."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class StoreError(TwinError):
    """The warehouse or the index could not do what was asked."""


class StoreLocked(StoreError):
    """Another process holds the store for writing."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or written: no server, read-only, disk full."""


class IndexMissing(StoreError):
    """There is no index yet at that address."""


class EmbeddingError(TwinError):
    """The embedding model could not be loaded or failed on a text."""


class DatasetError(TwinError):
    """Training data cannot be built, kept or found."""


class DatasetLeak(DatasetError):
    """The audit of a build found something on one side of the split that belongs to another; nothing is written."""


class TrainingError(TwinError):
    """A training run cannot go on: its loss is no number, or the device has no memory left."""


class ParityFailed(TrainingError):
    """A form of a model does not say what the trained adapter says; nothing is released."""


class ModelError(TwinError):
    """The chat model failed. ``tokens``: what it read and wrote before that, as far as its server says; ``rounds``: requests
    that it had answered by then.
    """

    tokens: tuple[int, int] = (0, 0)
    rounds: int = 0


class ModelUnavailable(ModelError):
    """The chat model cannot be reached, refuses us, or does not answer in time.

    ``retry_after`` in seconds, if it said; ``reason`` is a short stable word: ``timed-out``, ``rate-limited`` or
    ``unavailable``.
    """

    def __init__(
        self, message: str, *, hint: str = "", retry_after: float | None = None, reason: str = "unavailable"
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.reason = reason


class PromptTooLong(ModelError):
    """What the chat model was to read does not fit its window: asking it again the same way never helps."""


class ModelReplyInvalid(ModelError):
    """The chat model answered with something of no use: no text, or not the structure that was asked for.

    ``said``: its text, where there was one.
    """

    def __init__(self, message: str, *, hint: str = "", tokens: tuple[int, int] = (0, 0), said: str = "") -> None:
        super().__init__(message, hint=hint)
        self.tokens = tokens
        self.rounds = 1 if said else 0
        self.said = said


class PassageNotSeen(ModelError):
    """A model was to write about a passage that is not in its prompt, or that did not reach it whole."""


def in_one_line(error: ValueError) -> str:
    """What is wrong with something that was read from a file: each fault with its place, ``line`` for the whole."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'line'}: {item['msg']}" for item in error.errors())
    return str(error)
