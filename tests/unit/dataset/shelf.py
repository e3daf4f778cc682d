"""Texts on a shelf, and candidates cut from them, for tests of the gates."""

from datetime import UTC, datetime, timedelta

from llm_engineering.domain.entities import Kind
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle, Pair, PairSource, Provenance, Sample

FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)


class Shelf:
    """Documents of one author by id; what was put up first was published first."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, int], str] = {}

    def revision_text(self, document: str, revision: int) -> str | None:
        return self.texts.get((document, revision))

    def passage(
        self, text: str, *, document: str = "", kind: Kind = Kind.ARTICLE, title: str = "A title"
    ) -> AuthorPassage:
        """The text as the middle of a document of its own, or at the end of one that is there already."""
        document = document or f"document-{len(self.texts):03d}"
        before = self.texts.get((document, 1), "# A heading\n\n")
        self.texts[document, 1] = f"{before}{text}\n\nThe end.\n\n"
        return AuthorPassage(
            provenance=Provenance(
                author_id="ann",
                author="Ann Author",
                document_id=document,
                revision=1,
                start=len(before),
                end=len(before) + len(text),
                title=title,
                url=f"https://ann.example/{document}",
                kind=kind,
                published_at=FIRST_DAY + timedelta(days=len(self.texts)),
            ),
            text=text,
            occurrence=before.count(text),
        )

    def sample(
        self,
        text: str,
        instruction: str = "",
        *,
        answer: str | None = None,
        style: InstructionStyle = InstructionStyle.ASK,
        written_by: str = "teacher",
        document: str = "",
        kind: Kind = Kind.ARTICLE,
    ) -> Sample:
        passage = self.passage(text, document=document, kind=kind)
        instruction = instruction or f"What do you think of matter number {len(self.texts)}?"
        return Sample.of(passage, instruction, style=style, written_by=written_by, answer=answer)

    def pair(self, text: str, rejected: str, instruction: str = "", *, source: PairSource = PairSource.BASE) -> Pair:
        return Pair.of(self.sample(text, instruction), rejected, source=source, rejected_by="base")
