"""The distractors that come with the project: with them the style of a twin of the sample corpus can be measured."""

from pathlib import Path

import pytest

from examples.sample import HERE, posts
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.samples import Split
from llm_engineering.evaluation.held_out import read_held_out
from llm_engineering.evaluation.prose import StyleText
from llm_engineering.evaluation.report import Part
from llm_engineering.evaluation.style import DELTA, VERIFICATION, style
from tests.unit.evaluation.trained import sample, write_dataset
from tools.entry import load_config


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    """Four of the sample's posts as if a twin had written them, four as held-out text, the rest as known text."""
    ada = [StyleText(document_id=name, text=post.text) for name, post in posts("v1").items()]
    samples = {Split.TEST: ada[4:8], Split.TRAIN: ada[8:]}
    dataset = write_dataset(
        tmp_path_factory.mktemp("v1"),
        {split: [sample(text, "Ada Winter") for text in texts] for split, texts in samples.items()},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HERE.parent)
        config = load_config(Path("configs/evaluation.yaml"), EvaluationConfig).model_copy(update={"resamples": 200})
        held_out = read_held_out(dataset, distractors=config.twin.distractors, limit=100, seed=7)
    found = style(
        twin=ada[:4], held_out=held_out.answers, known=held_out.known, distractors=held_out.others,
        config=config.twin.style, evaluation=config,
    )  # fmt: skip
    return {part.name: part for part in found}


@pytest.mark.parametrize("name", [VERIFICATION, DELTA])
def test_whose_the_output_is_taken_for_has_figures(parts: dict[str, Part], name: str) -> None:
    assert not parts[name].missing
    assert parts[name].figures and all(figure.interval for figure in parts[name].figures)


def test_the_author_and_the_distractors_are_told_apart(parts: dict[str, Part]) -> None:
    found = {
        figure.name: figure.interval.mean
        for part in parts.values()
        for figure in part.figures
        if figure.interval and figure.name.startswith("author against")
    }
    apart = {name: mean for name, mean in found.items() if "themselves" not in name}
    assert {name.split(", by")[0] for name in apart} == {"author against Ben Summer", "author against Clara Autumn"}
    assert min(apart.values()) > 0.9, apart
