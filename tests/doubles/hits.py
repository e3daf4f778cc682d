"""What an index finds, made by hand."""

from llm_engineering.domain.entities import Hit, Kind


def a_hit(
    document: str, text: str, start: int, end: int, *, window: tuple[int, int] | None = None, score: float = 1.0
) -> Hit:
    wide = window or (0, len(text))
    return Hit(
        chunk_id=f"{document} {start}",
        document_id=document,
        revision=1,
        title="t",
        url="u",
        kind=Kind.ARTICLE,
        platform="p",
        author_id="a",
        author="Ada Winter",
        published_at=None,
        language=None,
        heading_path=(),
        text=text[start:end],
        start=start,
        end=end,
        window_start=wide[0],
        window_end=wide[1],
        score=score,
    )
