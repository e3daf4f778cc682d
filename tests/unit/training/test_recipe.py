"""The recipes in ``configs/training`` and what a wrong one is told."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from llm_engineering.domain.errors import UsageError
from llm_engineering.training.recipe import Recipe
from tests.doubles.training import small_recipe
from tools.entry import load_config

RECIPES = sorted((Path(__file__).parents[3] / "configs" / "training").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid(path: Path):
    assert load_config(path, Recipe).model


def test_the_large_recipe_names_every_number_of_both_stages():
    """Nothing of the real run is inherited in silence."""
    content = yaml.safe_load(next(path for path in RECIPES if path.stem == "sft_dpo_8b").read_text())
    recipe = Recipe.model_validate(content)
    for part, name in ((recipe.sft, "sft"), (recipe.dpo, "dpo")):
        rare = {"max_steps", "keep_checkpoints"}
        silent = (
            set(type(part).model_fields)
            - part.model_fields_set
            - rare
            - ({"optimizer", "weight_decay", "max_grad_norm"} if name == "dpo" else set())
        )
        assert not silent


def test_the_model_has_no_default():
    with pytest.raises(ValidationError, match="model"):
        Recipe.model_validate({})


def test_a_misspelt_number_is_named_with_its_path(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("model: some/model\nsft:\n  learning_rat: 1\n")
    with pytest.raises(UsageError, match=r"sft.learning_rat: Extra inputs are not permitted"):
        load_config(tmp_path / "recipe.yaml", Recipe)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValidationError, match="'sigmoid', 'hinge'"):
        small_recipe(dpo__loss=["best"])


def test_a_loss_that_needs_smoothing_is_refused_without_it_before_anything_is_trained():
    with pytest.raises(ValidationError, match="exo_pair needs a label_smoothing above 0"):
        small_recipe(dpo__loss=["exo_pair"])
    assert small_recipe(dpo__loss=["exo_pair"], dpo__label_smoothing=0.001)


def test_each_loss_has_its_weight():
    with pytest.raises(ValidationError, match="2 entries for 1 losses"):
        small_recipe(dpo__loss_weights=[1.0, 0.5])


def test_the_printed_recipe_marks_what_was_inherited():
    lines = list(Recipe(model="some/model", context=512).described())
    assert "context = 512" in lines
    assert "sft.learning_rate = 0.0002   (default)" in lines
