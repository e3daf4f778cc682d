"""A run that is stopped anywhere goes on to the very weights that an undisturbed run comes to."""

from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from llm_engineering.domain.errors import UsageError
from llm_engineering.training.curves import read_curves
from llm_engineering.training.dpo import dpo
from llm_engineering.training.folders import MARK, last_checkpoint
from llm_engineering.training.sft import sft
from tests.doubles.training import small_recipe


class Killed(BaseException):
    """Nobody catches it, as nobody catches a signal that kills."""


class KillAt(TrainerCallback):
    """Ends the run in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Killed


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def test_a_killed_sft_run_comes_to_the_same_weights(with_base: Path, trained, dataset: Path, weights):
    with pytest.raises(Killed):
        sft(small_recipe(), dataset=dataset, out=with_base, callbacks=[KillAt(5)])
    assert not (with_base / "sft").exists()
    report = sft(small_recipe(), dataset=dataset, out=with_base)
    assert report.resumed_from == 4
    assert_same(weights(with_base / "sft"), weights(trained[0] / "sft"))
    assert report.after == trained[1].after and report.before == trained[1].before


def test_the_curves_of_a_resumed_run_have_each_step_once(with_base: Path, dataset: Path):
    with pytest.raises(Killed):
        sft(small_recipe(), dataset=dataset, out=with_base, callbacks=[KillAt(4)])
    sft(small_recipe(), dataset=dataset, out=with_base)
    assert [line["step"] for line in read_curves(with_base / "sft") if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_a_killed_dpo_run_comes_to_the_same_weights(tmp_path: Path, with_sft: Path, dataset: Path, weights):
    import shutil

    shutil.copytree(with_sft, tmp_path / "undisturbed")
    dpo(small_recipe(), dataset=dataset, out=tmp_path / "undisturbed")
    with pytest.raises(Killed):
        dpo(small_recipe(), dataset=dataset, out=with_sft, callbacks=[KillAt(5)])
    assert dpo(small_recipe(), dataset=dataset, out=with_sft).resumed_from == 4
    assert_same(weights(with_sft / "dpo"), weights(tmp_path / "undisturbed" / "dpo"))


EARLY = {"patience": 1, "learning_rate": 0.05, "scheduler": "constant", "max_steps": 40}


@pytest.mark.parametrize("numbers", [EARLY, {"max_steps": 5}], ids=["stopped early", "at its last step"])
def test_a_run_that_is_killed_after_its_end_is_not_trained_further(
    tmp_path: Path, with_base: Path, dataset: Path, weights, monkeypatch, numbers
):
    """All that is left to do is to keep the best weights."""
    import shutil

    from llm_engineering.training.run import Run

    recipe = small_recipe(**{f"sft__{name}": value for name, value in numbers.items()})
    shutil.copytree(with_base, tmp_path / "undisturbed")
    undisturbed = sft(recipe, dataset=dataset, out=tmp_path / "undisturbed")

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "_save", killed)
        sft(recipe, dataset=dataset, out=with_base)
    report = sft(recipe, dataset=dataset, out=with_base)
    assert report.resumed_from == report.steps
    assert_same(weights(with_base / "sft"), weights(tmp_path / "undisturbed" / "sft"))
    same = {"folder": "", "seconds": 0, "peak_memory_bytes": 0, "resumed_from": None}
    assert report.model_copy(update=same) == undisturbed.model_copy(update=same)


def test_a_run_that_is_killed_while_its_checkpoints_are_removed_is_whole(
    with_base: Path, trained, dataset: Path, weights, monkeypatch
):
    def kill(work):
        (work / "checkpoint-2" / MARK).unlink()
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("llm_engineering.training.run.remove_checkpoints", kill)
        sft(small_recipe(), dataset=dataset, out=with_base)
    assert not (with_base / "sft").exists()
    assert sft(small_recipe(), dataset=dataset, out=with_base).skipped
    assert_same(weights(with_base / "sft"), weights(trained[0] / "sft"))
    assert not list((with_base / "sft").glob("checkpoint-*"))


def test_the_first_measurement_is_made_in_training_where_the_model_is_prepared(with_base: Path, dataset: Path):
    """A model that is shared among GPUs by FSDP has its plan only then."""

    class Look(TrainerCallback):
        def __init__(self):
            self.seen = []

        def on_train_begin(self, args, state, control, **_):
            self.seen.append("begin")

        def on_evaluate(self, args, state, control, **_):
            self.seen.append(state.global_step)

    look = Look()
    sft(small_recipe(sft__max_steps=2), dataset=dataset, out=with_base, callbacks=[look])
    assert look.seen[:3] == ["begin", 0, 2]


def test_a_beginning_with_another_recipe_is_not_gone_on_with(with_base: Path, dataset: Path):
    with pytest.raises(Killed):
        sft(small_recipe(), dataset=dataset, out=with_base, callbacks=[KillAt(1)])
    with pytest.raises(UsageError, match="beginning of a run with another recipe"):
        sft(small_recipe(sft__learning_rate=1e-4), dataset=dataset, out=with_base)


def test_a_half_written_checkpoint_is_never_resumed(tmp_path: Path):
    for step, marked in ((2, True), (10, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if marked:
            (tmp_path / f"checkpoint-{step}" / MARK).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-12").exists()


def test_a_run_stops_early_and_keeps_the_best_weights(with_base: Path, dataset: Path):
    recipe = small_recipe(sft__patience=1, sft__learning_rate=0.05, sft__scheduler="constant", sft__max_steps=40)
    report = sft(recipe, dataset=dataset, out=with_base)
    losses = {line["step"]: line["eval_loss"] for line in read_curves(with_base / "sft")[:-1] if "eval_loss" in line}
    assert report.stopped_early and report.steps < 40
    assert losses[report.best_step] == min(losses[step] for step in losses if step > 0)
    assert report.after["loss"] == pytest.approx(losses[report.best_step], rel=1e-4)
