"""One query from the command line, or a file with one per line."""

from collections.abc import Iterator
from pathlib import Path

from llm_engineering.domain.errors import UsageError
from llm_engineering.rag.retrieve import checked_query


def read_queries(query: str | None, file: Path | None, *, example: str) -> Iterator[str]:
    """The query, or the lines of the file that hold one; :class:`UsageError` for neither, both, or one that cannot be asked.

    ``example`` shows how one is asked.
    """
    if (query is None) == (file is None):
        raise UsageError("Give one query, or --file with one query per line", hint=f"For example: {example}")
    if query is not None:
        checked_query(query)
        yield query
        return
    try:
        lines = (file or Path()).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The file of queries {file} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="Give a UTF-8 text file.",
        ) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                checked_query(line)
            except UsageError as error:
                raise UsageError(f"Line {number} of {file}: {error.message}", hint=error.hint) from error
            yield line.strip()
