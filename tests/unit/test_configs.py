"""The files in ``configs/`` name every number that can be set: who reads them need not read the code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from llm_engineering.domain.config import AnswerConfig, Configuration, FeatureConfig, ServiceConfig
from llm_engineering.domain.dataset_config import DatasetConfig
from llm_engineering.domain.evaluation_config import EvaluationConfig
from tools.entry import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHAPES: dict[str, type[Configuration]] = {
    "dataset": DatasetConfig,
    "evaluation": EvaluationConfig,
    "feature": FeatureConfig,
    "inference": AnswerConfig,
    "serving": ServiceConfig,
}
OF_NO_EFFECT = {
    "preference.calls.enabled",
    "search.k",  # of an answer: ``candidates`` says how many are searched for
}


def leaves(shape: BaseModel, above: str = "") -> Iterator[tuple[str, object]]:
    """Every key with its default, by its path."""
    for name in type(shape).model_fields:
        value = getattr(shape, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def is_named(path: str, content: object) -> bool:
    for part in path.split("."):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def unnamed(text: str, shape: BaseModel) -> list[str]:
    """The keys that a file does not name; those that are off by default may stand in a comment, anywhere in the file."""
    content = yaml.safe_load(text)
    missing = [(path, value) for path, value in leaves(shape) if not is_named(path, content)]
    return [
        path
        for path, value in missing
        if value or not re.search(rf"^\s*# {path.rpartition('.')[2]}:", text, flags=re.MULTILINE)
    ]


def test_every_file_of_numbers_has_its_shape_here():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_the_configuration_that_comes_with_the_product_names_every_key(name: str):
    file = CONFIGS / f"{name}.yaml"
    load_config(file, SHAPES[name])
    assert set(unnamed(file.read_text(encoding="utf-8"), SHAPES[name]())) <= OF_NO_EFFECT


def test_a_key_that_is_not_named_is_found():
    text = "k: 6\n# recency_half_life_days: 1\n# candidates: 3\nchat:\n  retries: 3\n"
    missing = unnamed(text, AnswerConfig())
    assert {"candidates", "chat.timeout", "sampling.temperature", "hyde"} <= set(missing)
    assert not {"k", "recency_half_life_days", "chat.retries"} & set(missing)
