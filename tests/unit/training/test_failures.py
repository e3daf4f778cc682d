"""What breaks during training is one clear line, and nothing half-written is taken for whole."""

from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from llm_engineering.domain.errors import MissingExtra, StoreUnavailable, TrainingError, UsageError
from llm_engineering.domain.samples import Split
from llm_engineering.training.data import read_examples, read_preferences
from llm_engineering.training.dpo import dpo
from llm_engineering.training.failures import explained
from llm_engineering.training.hardware import require_training
from llm_engineering.training.sft import sft
from tests.doubles.training import rows, small_recipe, write_dataset, write_split


class Act(TrainerCallback):
    """Does something at the end of a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_end(self, args, state, control, model, **_):
        if state.global_step == self.step:
            self.act(args, model)


def poison(args, model):
    next(weight for weight in model.parameters() if weight.requires_grad).data.fill_(float("nan"))


def test_a_loss_that_is_no_number_stops_the_run(with_base: Path, dataset: Path):
    with pytest.raises(TrainingError, match=r"diverged: loss is nan at step 4.*Lower sft.learning_rate"):
        sft(small_recipe(sft__evaluate_every=6), dataset=dataset, out=with_base, callbacks=[Act(3, poison)])
    assert not (with_base / "sft").exists()


def test_weights_that_are_no_numbers_are_never_resumed_from(with_base: Path, dataset: Path):
    """The evaluation before the checkpoint sees them first."""
    with pytest.raises(TrainingError, match="eval_loss is nan at step 4"):
        sft(small_recipe(sft__log_every=100), dataset=dataset, out=with_base, callbacks=[Act(4, poison)])
    assert not (with_base / "sft.partial" / "checkpoint-4").exists()
    assert sft(small_recipe(sft__log_every=100), dataset=dataset, out=with_base).steps == 6


def full_disk(args, model):
    """The optimizer's file of the next checkpoint can take no byte."""
    folder = Path(args.output_dir) / "checkpoint-4"
    folder.mkdir()
    (folder / "optimizer.pt").symlink_to("/dev/full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_at_checkpoint_time_loses_only_the_steps_since_the_last_one(
    with_base: Path, trained, dataset: Path, weights
):
    with pytest.raises(StoreUnavailable, match="The disk is full: a checkpoint could not be written"):
        sft(small_recipe(), dataset=dataset, out=with_base, callbacks=[Act(3, full_disk)])
    assert sft(small_recipe(), dataset=dataset, out=with_base).resumed_from == 2
    ours, theirs = weights(with_base / "sft"), weights(trained[0] / "sft")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_memory_that_ran_out_names_the_knobs(tmp_path: Path, error):
    recipe = small_recipe()
    with (
        pytest.raises(
            TrainingError, match=r"batch_size: 1 with accumulation: 2; gradient_checkpointing: true; context: 128"
        ),
        explained(recipe, recipe.sft, work=tmp_path),
    ):
        raise error


@pytest.mark.parametrize("stage", [sft, dpo], ids=["sft", "dpo"])
def test_memory_that_ran_out_while_the_model_was_loaded_names_the_knobs(
    tmp_path, with_sft, dataset, monkeypatch, stage
):
    def load(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(f"llm_engineering.training.{stage.__name__}.load", load)
    with pytest.raises(TrainingError, match=r"ran out of memory.*a lower lora.rank"):
        stage(small_recipe(), dataset=dataset, out=with_sft if stage is dpo else tmp_path / "anew")


def test_memory_that_the_machine_does_not_have_is_told_as_such(tmp_path: Path):
    recipe = small_recipe()
    with pytest.raises(TrainingError, match="ran out of memory"), explained(recipe, recipe.sft, work=tmp_path):
        torch.empty(1 << 50)


def test_other_errors_pass_unchanged(tmp_path: Path):
    recipe = small_recipe()
    with pytest.raises(RuntimeError, match="something else"), explained(recipe, recipe.sft, work=tmp_path):
        raise RuntimeError("something else")


def test_no_dataset(tmp_path: Path):
    with pytest.raises(UsageError, match=r"There is no dataset at .*poe run-dataset-pipeline"):
        sft(small_recipe(), dataset=tmp_path / "none", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_pairs(tmp_path: Path):
    write_split(tmp_path, "instruct", "train", rows(2))
    with pytest.raises(UsageError, match=r"has no preference/train.parquet"):
        read_preferences(tmp_path, Split.TRAIN)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split(tmp_path: Path, split: str):
    write_dataset(tmp_path)
    write_split(tmp_path, "instruct", split, [])
    with pytest.raises(UsageError, match=f"The {split} split of .* is empty"):
        sft(small_recipe(), dataset=tmp_path, out=tmp_path / "run")


def test_a_file_that_is_no_parquet(tmp_path: Path):
    write_dataset(tmp_path)
    (tmp_path / "instruct" / "train.parquet").write_text("nothing of the kind")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        read_examples(tmp_path, Split.TRAIN)


def test_a_dataset_of_other_columns(tmp_path: Path):
    write_split(tmp_path, "instruct", "train", rows(2))
    (tmp_path / "preference").mkdir()
    (tmp_path / "instruct" / "train.parquet").rename(tmp_path / "preference" / "train.parquet")
    with pytest.raises(UsageError, match="has no column chosen, rejected"):
        read_preferences(tmp_path, Split.TRAIN)


def test_a_context_that_no_sample_fits(with_base: Path, tmp_path: Path, dataset: Path):
    with pytest.raises(UsageError, match="All samples of the train split are longer than the context of 16 tokens"):
        sft(small_recipe(context=16, model__window=16), dataset=dataset, out=tmp_path / "short")
    assert not (tmp_path / "short" / "sft").exists()


def test_without_the_extra_one_line_says_how_to_install_it():
    with pytest.raises(MissingExtra, match=r"trl is not installed.*llm-engineering\[train\]"):
        require_training(installed=lambda package: package != "trl")
    require_training(installed=lambda package: True)
