"""An author's writings in a warehouse, as the dataset stage reads them."""

from contextlib import closing
from pathlib import Path

from llm_engineering import bootstrap
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.dataset.build import Build, build
from llm_engineering.dataset.passages import passages
from llm_engineering.domain.config import CleanConfig
from llm_engineering.domain.dataset_config import DatasetConfig, PassageConfig, SplitConfig
from llm_engineering.domain.entities import Author, DocumentState, Draft, Kind, TextFormat
from llm_engineering.domain.samples import AuthorPassage, Refusal, Sample

ANN = Author.named("Ann Lee")
READ = bootstrap.pieces_for(CleanConfig())
SMALL = PassageConfig(min_words=8, max_words=60, before_words=20)
HALVES = DatasetConfig(passages=SMALL, split=SplitConfig(validation=0.2, test=0.3))


def sentence(subject: str, number: int = 0) -> str:
    """Some twenty words of prose that no other subject or number shares eight in a row of."""
    own = [f"{subject}{number}{letter}" for letter in "abcdefghijkl"]
    return (
        f"The {own[0]} of {own[1]} and {own[2]} makes {own[3]} with {own[4]} {own[5]} {own[6]} for {' '.join(own[7:])}."
    )


def article(*subjects: str, sentences: int = 3) -> str:
    """A Markdown text with a section for each subject."""
    return "\n\n".join(
        f"## About {subject}\n\n" + "\n\n".join(sentence(subject, number) for number in range(sentences))
        for subject in subjects
    )


def draft(name: str, text: str, **fields: object) -> Draft:
    kept: dict[str, object] = {"kind": Kind.ARTICLE, "title": f"Notes on {name}", "language": "en", **fields}
    return Draft(author_id=ANN.id, url=f"https://ann.example/{name}", platform="ann", text=text, **kept)  # type: ignore[arg-type]


def warehouse_at(folder: Path) -> SQLiteWarehouse:
    return SQLiteWarehouse(folder / "warehouse.sqlite")


def record(folder: Path, *drafts: Draft) -> None:
    """Keep the drafts in the warehouse of that folder, in one transaction each."""
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.save_author(ANN)
        for each in drafts:
            warehouse.record([each])


def state_of(folder: Path, text: str, **fields: object) -> DocumentState:
    """One document as the warehouse gives it back."""
    one = draft("one", text, **fields)
    record(folder, one)
    with closing(warehouse_at(folder)) as warehouse:
        return warehouse.state([one.document_id])[one.document_id]


def passages_of(
    state: DocumentState, config: PassageConfig = SMALL, furniture: frozenset[str] = frozenset()
) -> tuple[list[AuthorPassage], list[Refusal]]:
    return passages(state, READ(state), config=config, furniture=furniture)


def built(folder: Path, config: DatasetConfig | None = None, **options: object) -> Build:
    """A build of everything in the folder's warehouse, by rules."""
    with closing(warehouse_at(folder)) as warehouse:
        return build(warehouse, config or DatasetConfig(passages=SMALL), read=READ, **options)  # type: ignore[arg-type]


CODE = TextFormat.CODE


def everything(made: Build) -> list[Sample]:
    """The samples of every side."""
    return [sample for side in made.dataset.samples.values() for sample in side]
