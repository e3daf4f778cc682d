"""The card says what a dataset holds, where it is from, and what was refused; versions follow from content."""

import pytest
import yaml

from llm_engineering.dataset import store
from llm_engineering.dataset.bias import Bias
from llm_engineering.dataset.card import recipe_of
from llm_engineering.dataset.readme import readme
from llm_engineering.domain.dataset_config import AuthorTerms, DatasetConfig
from llm_engineering.domain.errors import DatasetError, StoreUnavailable
from llm_engineering.domain.samples import Split
from tests.doubles.writing import HALVES, article, built, draft, record
from tests.unit.dataset.test_build import rejected_for


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    record(folder, *(draft(f"d{n}", f"{article(f'alpha{n}')}\n\n## More\n\nToo short.") for n in range(8)))
    terms = {"Ann Lee": AuthorTerms(licence="cc-by-4.0", consent=True)}
    return built(folder, HALVES.model_copy(update={"terms": terms}))


@pytest.fixture
def card(made):
    return made.dataset.card


def test_counts_add_up(card, made):
    samples = [sample for side in made.dataset.samples.values() for sample in side]
    for counts in (card.samples, card.styles, card.origins, card.kinds, card.languages, card.written_by):
        assert sum(counts.values()) == len(samples)
    assert sum(card.refusals.values()) == len(made.refusals)
    assert card.refusals["too-short"] == 8


def test_every_document_has_its_side_and_the_spans_of_its_answers(card, made):
    spans = {(line.id, span) for line in card.documents for span in line.spans}
    sides = {line.id: line.split for line in card.documents}
    for split, side in made.dataset.samples.items():
        for sample in side:
            where = sample.provenance
            assert (where.document_id, (where.start, where.end)) in spans
            assert sides[where.document_id] is split


def test_the_readme_says_it_to_people_and_to_the_hub(card):
    text = readme(card)
    _, front, body = text.split("---\n", 2)
    config = yaml.safe_load(front)
    assert config["license"] == "cc-by-4.0"
    files = {entry["split"]: entry["path"] for entry in config["configs"][0]["data_files"]}
    assert files == {split.value: f"instruct/{split}.parquet" for split in Split}
    for part in (
        "Ann Lee",
        "cc-by-4.0 | yes",
        "too-short | 8",
        "ann.example",
        "repeated instructions | 0",
        card.recipe,
    ):
        assert part in body


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("All rights reserved", {"license": "other", "license_name": "all-rights-reserved"}),
        ("著作権", {"license": "other", "license_name": "own-terms"}),
        ("", {}),
    ],
)
def test_the_hub_is_told_a_licence_that_it_knows_or_another_one_by_name(card, licence, said):
    line = card.authors[0].model_copy(update={"licence": licence})
    front = yaml.safe_load(readme(card.model_copy(update={"authors": (line,)})).split("---\n")[1])
    assert {key: value for key, value in front.items() if key.startswith("license")} == said


def test_a_pipe_in_a_name_breaks_no_table(card):
    line = card.authors[0].model_copy(update={"name": "A|B"})
    assert "A\\|B" in readme(card.model_copy(update={"authors": (line,)}))


def test_the_recipe_changes_with_numbers_and_writer():
    recipes = {
        recipe_of(DatasetConfig(), writer="rules"),
        recipe_of(DatasetConfig(), writer="teacher"),
        recipe_of(DatasetConfig(name="other"), writer="rules"),
    }
    assert len(recipes) == 3


def test_the_same_version_is_written_once(made, tmp_path):
    assert store.write(made.dataset, tmp_path) is True
    folder = tmp_path / "twin" / made.dataset.card.version
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert store.write(made.dataset, tmp_path) is False
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert store.current(tmp_path, "twin") == made.dataset.card


def test_a_build_that_was_killed_while_writing_leaves_no_version(made, tmp_path):
    part = tmp_path / "twin" / f".{made.dataset.card.version}.part"
    part.mkdir(parents=True)
    (part / "card.json").write_text("{")
    assert store.current(tmp_path, "twin") is None and list(store.versions(tmp_path)) == []
    assert store.write(made.dataset, tmp_path) is True
    assert not part.exists()


def test_a_name_that_nothing_was_built_under_has_no_card(tmp_path):
    assert store.current(tmp_path, "twin") is None


def test_a_card_that_cannot_be_read_is_an_error_with_its_place(made, tmp_path):
    store.write(made.dataset, tmp_path)
    path = tmp_path / "twin" / made.dataset.card.version / "card.json"
    path.write_text('{"name": 3}')
    with pytest.raises(DatasetError, match=r"twin.*run-dataset-pipeline"):
        store.current(tmp_path, "twin")


def test_a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do(made, tmp_path):
    (tmp_path / "datasets").write_text("a file")
    with pytest.raises(StoreUnavailable, match="TWIN_HOME"):
        store.write(made.dataset, tmp_path / "datasets")


def test_the_card_says_by_what_form_the_two_sides_of_pairs_differ(tmp_path):
    record(tmp_path, *(draft(f"d{n}", article(f"alpha{n}")) for n in range(8)))
    before = Bias(pairs=8, chosen_longer=0.25, formats={"lists": (0.0, 0.875)})

    def make_pairs(samples):
        return rejected_for(samples)._replace(bias_before=before)

    card = built(tmp_path, HALVES, make_pairs=make_pairs).dataset.card
    assert card.bias_before == before and card.formats["lists"] == (0, 0)
    assert f"the rejected one: {card.chosen_longer:.1%} (25.0% as written)" in readme(card)
    assert "| lists | 0.0% | 0.0% | 87.5% |" in readme(card)


def test_the_card_calls_verbatim_what_is_verbatim_alone(card):
    assert "verbatim; the instructions were written" in readme(card)
    mixed = readme(card.model_copy(update={"origins": {"author": 7, "rephrased": 1}, "masked": {"email": 2}}))
    assert "7 answers are passages of the authors' own text, verbatim, save for what is masked" in mixed
    assert "1 answers are not the authors' words: a teacher model wrote them" in mixed
