"""Preference optimisation: from the SFT adapter, against a frozen copy of it."""

from pathlib import Path
from typing import get_args

import pytest

from llm_engineering.domain.errors import UsageError
from llm_engineering.training.dpo import dpo
from llm_engineering.training.recipe import DpoLoss
from tests.doubles.training import small_recipe


@pytest.fixture(scope="module")
def preferred(tmp_path_factory, trained, dataset):
    """A finished DPO stage, and what its trainer held at the first and at the last step."""
    import shutil

    from transformers import TrainerCallback

    class Look(TrainerCallback):
        def __init__(self):
            self.seen = []

        def on_step_end(self, args, state, control, model, **_):
            weights = dict(model.named_parameters())
            self.seen.append(
                {
                    name: (weight.detach().clone(), weight.requires_grad)
                    for name, weight in weights.items()
                    if "lora_" in name
                }
            )

    out = tmp_path_factory.mktemp("preferred") / "run"
    shutil.copytree(trained[0], out)
    look = Look()
    report = dpo(small_recipe(), dataset=dataset, out=out, callbacks=[look])
    return out, report, look.seen


def test_rewards_begin_level_because_the_reference_is_the_sft_adapter(preferred):
    assert preferred[1].before["margin"] == pytest.approx(0, abs=1e-6)
    assert preferred[1].before["loss"] == pytest.approx(0.6931, abs=1e-3)  # ln 2


def test_training_raises_margin_and_accuracy_on_held_out_pairs(preferred):
    assert preferred[1].after["margin"] > 0.01
    assert (preferred[1].before["accuracy"], preferred[1].after["accuracy"]) == (0.5, 1.0)  # a tie counts half


def test_the_reference_stays_the_sft_adapter_while_the_policy_moves(preferred, weights):
    import torch

    first = weights(preferred[0] / "sft")
    for name, (weight, trainable) in preferred[2][-1].items():
        start = first[name.replace(".default", "").replace(".ref", "")]
        assert trainable == (".default." in name)
        assert torch.equal(weight, start) == (".ref." in name)


def test_the_kept_adapter_is_the_policy_alone(preferred, weights):
    folder = preferred[0] / "dpo" / "adapter"
    assert not (folder / "ref").exists()
    assert weights(preferred[0] / "dpo").keys() == weights(preferred[0] / "sft").keys()


@pytest.mark.parametrize("loss", get_args(DpoLoss))
def test_every_loss_of_the_recipe_is_known_to_the_trainer(loss):
    from trl import DPOConfig

    # The trainer itself decides by name and raises for others: the names are read from its own words.
    assert f"'{loss}'" in (DPOConfig.__doc__ or "")


def test_two_losses_are_weighted(with_sft: Path, dataset: Path):
    recipe = small_recipe(dpo__loss=["sigmoid", "sft"], dpo__loss_weights=[1.0, 0.5], dpo__max_steps=1)
    assert dpo(recipe, dataset=dataset, out=with_sft).steps == 1


def test_without_an_sft_stage_there_is_nothing_to_start_from(with_base: Path, dataset: Path):
    with pytest.raises(UsageError, match="no finished SFT stage"):
        dpo(small_recipe(), dataset=dataset, out=with_base)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, trained, dataset: Path):
    recipe = small_recipe(model__steps=1)
    with pytest.raises(UsageError, match="trained on another base"):
        dpo(recipe, dataset=dataset, out=tmp_path / "other", start=trained[0] / "sft")


def test_pairs_may_come_from_another_dataset_than_the_samples(with_sft: Path, tmp_path: Path):
    from tests.doubles.training import write_dataset

    other = write_dataset(tmp_path / "other", train=5)
    assert dpo(small_recipe(dpo__max_steps=1), dataset=other, out=with_sft).samples["train"] == 5


def test_a_base_that_was_changed_after_the_sft_stage_is_refused(with_sft: Path, dataset: Path):
    (with_sft / "base" / "config.json").write_text((with_sft / "base" / "config.json").read_text() + " ")
    with pytest.raises(UsageError, match="trained on another base"):
        dpo(small_recipe(), dataset=dataset, out=with_sft)


def test_other_numbers_take_the_place_of_what_lies_there_only_when_asked_to(with_sft, dataset):
    one_step = {"dpo__max_steps": 1}
    dpo(small_recipe(**one_step), dataset=dataset, out=with_sft)
    other = small_recipe(**one_step, dpo__beta=0.7)
    with pytest.raises(UsageError, match="another run's weights"):
        dpo(other, dataset=dataset, out=with_sft)
    report = dpo(other, dataset=dataset, out=with_sft, replace=True)
    assert (report.steps, report.skipped) == (1, False)


@pytest.fixture
def begins_twice(tmp_path: Path, trained) -> str:
    """A base whose template writes the begin-of-text token, which the tokenizer adds as well, as that of Llama 3.1 does."""
    import shutil

    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    folder = tmp_path / "begins-twice"
    shutil.copytree(trained[0] / "base", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{- bos_token }}" + tokenizer.chat_template
    begin = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_it_reads_the_tokens_that_sft_and_serving_read(begins_twice, tmp_path: Path):
    """Also where a pair is exactly as long as the context: its end is learnt."""
    from transformers import AutoTokenizer, TrainerCallback

    from llm_engineering.domain.samples import Split
    from llm_engineering.training.data import read_preferences
    from llm_engineering.training.render import fitting_preferences, messages
    from llm_engineering.training.sft import sft
    from tests.doubles.training import rows, write_dataset

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, train_dataloader, **_):
            self.rows = [row for batch in train_dataloader for row in batch["input_ids"].tolist()]

    longest = {"instruction": "Tell me more", "answer": "It stays as it is, as it was. " * 4, "author": None}
    dataset = write_dataset(tmp_path / "dataset", samples=[*rows(3), longest])
    tokenizer = AutoTokenizer.from_pretrained(begins_twice)
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    pairs = read_preferences(dataset, Split.TRAIN)
    context = max(row.longest for row in fitting_preferences(tokenizer, pairs, context=10_000).rows)
    recipe = small_recipe(model=begins_twice, context=context, sft__max_steps=1, dpo__max_steps=1, sft__packing=False)
    looks = Look(), Look()
    sft(recipe, dataset=dataset, out=tmp_path / "run", callbacks=[looks[0]])
    dpo(recipe, dataset=dataset, out=tmp_path / "run", callbacks=[looks[1]])
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    learnt, preferred = ({tuple(i for i in row if i != pad) for row in look.rows} for look in looks)
    assert learnt <= preferred
    assert max(map(len, preferred)) == context and all(row[-1] == end for row in preferred)
    for pair in pairs:
        asked = messages(pair.instruction, author=pair.author)
        served = tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
        assert sum(row[: len(served)] == tuple(served) for row in preferred) == 2
