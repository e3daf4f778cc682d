"""A stage of supervised fine-tuning from beginning to end."""

import json
from pathlib import Path

import pytest
import yaml

from llm_engineering.training.curves import read_curves
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.report import read_report
from llm_engineering.training.sft import sft
from tests.doubles.training import small_recipe


def test_training_lowers_the_loss_on_samples_it_never_saw(trained):
    _, report = trained
    assert report.after["loss"] < report.before["loss"]


def test_the_stage_keeps_adapter_tokenizer_record_and_curves(trained):
    folder = trained[0] / "sft"
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "adapter/tokenizer.json",
        "adapter/chat_template.jinja", "recipe.yaml", "run.json", "curves.jsonl", "curves.png",
    } <= kept  # fmt: skip
    assert not [name for name in kept if name.endswith((".bin", ".pt")) or name.startswith("checkpoint")]


def test_the_record_says_what_the_weights_were_made_with(trained):
    provenance = json.loads((trained[0] / "sft" / "run.json").read_text())["provenance"]
    assert provenance["packages"]["trl"] and provenance["hardware"]["device"] == "cpu"
    assert {"dataset_version", "base_digest", "seed", "git_commit", "prompt_version"} <= provenance.keys()


def test_the_kept_recipe_is_the_whole_recipe(trained):
    content = yaml.safe_load((trained[0] / "sft" / "recipe.yaml").read_text())
    assert Recipe.model_validate(content) == small_recipe()


def test_the_curves_hold_training_and_validation(trained):
    lines = read_curves(trained[0] / "sft")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert {2, 4, 6} <= {line["step"] for line in lines if "eval_loss" in line}


def test_only_the_adapter_is_trained(trained):
    out, report = trained
    assert 0 < report.trained_parameters < 10_000
    assert read_report(out / "sft") == report


def test_a_finished_stage_is_not_repeated(with_sft: Path, dataset: Path):
    before = (with_sft / "sft" / "run.json").stat().st_mtime_ns
    assert sft(small_recipe(), dataset=dataset, out=with_sft).skipped
    assert (with_sft / "sft" / "run.json").stat().st_mtime_ns == before


def test_a_changed_dpo_number_leaves_the_sft_stage_finished(with_sft: Path, dataset: Path):
    assert sft(small_recipe(dpo__beta=0.3), dataset=dataset, out=with_sft).skipped


def test_another_recipe_does_not_overwrite_finished_weights(with_sft: Path, dataset: Path):
    from llm_engineering.domain.errors import UsageError

    with pytest.raises(UsageError, match="another run's weights"):
        sft(small_recipe(sft__learning_rate=1e-4), dataset=dataset, out=with_sft)


def test_another_wording_of_the_prompts_is_trained_anew(with_sft: Path, dataset: Path, monkeypatch):
    """And in a folder of its own, where the pipeline names it."""
    from llm_engineering.domain.errors import UsageError
    from llm_engineering.training.provenance import run_name

    before = run_name(small_recipe(), dataset="d", version="v")
    assert run_name(small_recipe(dpo__beta=0.3), dataset="d", version="v") == before
    monkeypatch.setattr("llm_engineering.training.provenance.VERSION", 1_000)
    assert run_name(small_recipe(), dataset="d", version="v") != before
    with pytest.raises(UsageError, match="another run's weights"):
        sft(small_recipe(), dataset=dataset, out=with_sft)


def test_nothing_of_the_model_stays_in_memory(with_base: Path, dataset: Path):
    """The next stage runs in the same process and needs the room."""
    import gc

    from bitsandbytes.nn import Linear4bit

    gc.collect()
    before = sum(type(each) is Linear4bit for each in gc.get_objects())
    sft(small_recipe(sft__max_steps=1), dataset=dataset, out=with_base)
    assert sum(type(each) is Linear4bit for each in gc.get_objects()) <= before


def test_several_gpus_without_a_launcher_are_one(with_sft: Path, dataset: Path, monkeypatch):
    """Transformers takes all that are visible for its own: it would double the batch and the loss."""
    from functools import cached_property

    from transformers import TrainerCallback, TrainingArguments

    from llm_engineering.training.dpo import dpo

    set_up = TrainingArguments._setup_devices.func

    def two_devices(self):
        device, self._n_gpu = set_up(self), 2
        return device

    class Look(TrainerCallback):
        def __init__(self):
            self.batches = set()

        def on_train_begin(self, args, state, control, **_):
            self.batches |= {args.train_batch_size, args.eval_batch_size}

    visible = cached_property(two_devices)
    visible.__set_name__(TrainingArguments, "_setup_devices")
    monkeypatch.setattr(TrainingArguments, "_setup_devices", visible)
    assert TrainingArguments(output_dir="", per_device_train_batch_size=2, use_cpu=True).train_batch_size == 4
    look, one_step = Look(), {"sft__max_steps": 1, "dpo__max_steps": 1}
    before = read_report(with_sft / "sft").before
    (with_sft / "sft").rename(with_sft / "alone")
    assert sft(small_recipe(**one_step), dataset=dataset, out=with_sft, callbacks=[look]).before == before
    dpo(small_recipe(**one_step), dataset=dataset, out=with_sft, callbacks=[look])
    assert look.batches == {2}
