"""How one stage reads what another stage knows how to read: stages do not import each other."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_engineering.domain.config import CleanConfig, FeatureConfig
from llm_engineering.domain.entities import Chunk, DocumentState
from llm_engineering.domain.ports import Embedder

if TYPE_CHECKING:
    from llm_engineering.dataset.pieces import ReadPieces


def chunker_for(config: FeatureConfig, embedder: Embedder) -> Callable[[DocumentState], list[Chunk]]:
    """Cleaning and chunking as configured, measured in the embedder's own tokens."""
    from llm_engineering.features.chunk import chunk

    def chunks_of(state: DocumentState) -> list[Chunk]:
        if state.revision is None:
            return []
        return chunk(
            state.revision,
            kind=state.document.kind,
            config=config.chunk,
            clean=config.clean,
            count_tokens=embedder.count_tokens,
            window=embedder.window,
        )

    return chunks_of


def reader_for(config: FeatureConfig) -> Callable[[DocumentState], str]:
    """The reading view of a document: the author's text without boilerplate."""
    from llm_engineering.features.chunk import reading_text
    from llm_engineering.features.clean import reading_spans

    def read(state: DocumentState) -> str:
        if state.revision is None:
            return ""
        text = state.revision.text
        return reading_text(text, reading_spans(text, format=state.revision.format, config=config.clean))

    return read


def pieces_for(clean: CleanConfig) -> "ReadPieces":
    """The blocks of a document without the page's furniture, as the dataset stage reads them."""
    from llm_engineering.dataset.pieces import Piece
    from llm_engineering.features.clean import reading_spans
    from llm_engineering.features.normalise import normalise
    from llm_engineering.features.structure import blocks

    def read(state: DocumentState) -> list[Piece]:
        if state.revision is None:
            return []
        text, format = state.revision.text, state.revision.format
        structure = blocks(text, format=format)
        view = normalise(text, format=format, structure=structure)
        pieces: list[Piece] = []
        spans = iter(reading_spans(text, format=format, config=clean, structure=structure, view=view))
        span = next(spans, None)
        reached = 0
        for block in structure:
            while span is not None and span.end <= block.start:
                reached, span = span.end, next(spans, None)
            position = block.start
            while span is not None and span.start < block.end:
                start, end = max(span.start, position), min(span.end, block.end)
                lines = text[start:end].splitlines(keepends=True)
                blank = sum(len(line) for line in itertools.takewhile(lambda line: not line.strip(), lines))
                inner = text[start + blank : end].rstrip()
                if inner:
                    pieces.append(
                        Piece(
                            start + blank,
                            start + blank + len(inner),
                            block.kind,
                            " ".join(view.between(start, end).split()),
                            level=block.level,
                            broken=span.start > reached and span.start >= position,
                        )
                    )
                if span.end > block.end:
                    break
                position, reached, span = span.end, span.end, next(spans, None)
        return pieces

    return read


def language_of(text: str) -> str | None:
    """ISO 639-1 code of a text's natural language; ``None`` where it cannot be told."""
    from llm_engineering.dataset.language import language_of as detect

    return detect(text)
