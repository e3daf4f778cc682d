"""One stage of training as a folder: begun in ``STAGE.partial``, resumed there, and named ``STAGE`` when it is whole."""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

from llm_engineering.domain.errors import UsageError
from llm_engineering.training.curves import Curves, draw_curves
from llm_engineering.training.failures import explained
from llm_engineering.training.folders import finished, last_checkpoint, remove_checkpoints, unfinished
from llm_engineering.training.hardware import Hardware, computing_type, peak_memory
from llm_engineering.training.loading import chosen_engine
from llm_engineering.training.provenance import (
    RECORD,
    Provenance,
    cached_files,
    git_commit,
    identity,
    model_digest,
    packages,
    read_provenance,
    write_recipe,
    write_record,
)
from llm_engineering.training.recipe import Recipe, StageRecipe
from llm_engineering.training.report import TrainingReport, is_whole, measured, read_report
from llm_engineering.training.sharding import keep_precision, share
from llm_engineering.training.terminal import settle_trainer

if TYPE_CHECKING:
    from accelerate import PartialState
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase, Trainer, TrainerState

ADAPTER = "adapter"
_log = logging.getLogger(__name__)


class Run:
    """The work on one stage. Open it with :meth:`open`; every process of a distributed run opens its own."""

    def __init__(self, folder: Path, recipe: Recipe, provenance: Provenance, state: "PartialState") -> None:
        self.folder, self.recipe, self.provenance, self._state = folder, recipe, provenance, state
        self.report: TrainingReport | None = None
        """Of the same run, if it is finished already."""
        self.work = folder.with_name(f"{folder.name}.partial")
        self.checkpoint: Path | None = None
        """From which the run goes on."""
        self._begun = time.monotonic()

    @classmethod
    def open(
        cls, stage: str, recipe: Recipe, *, base: str, dataset: Path, version: str, hardware: Hardware, out: Path,
        started_from: str | None = None, replace: bool = False,
    ) -> "Run":  # fmt: skip
        """Begin the stage in ``out/STAGE``, go on with it, or find it finished.

        :class:`UsageError` where another run's weights or beginnings are in that place; with ``replace`` they give way.
        """
        from accelerate.utils import set_seed

        state = processes(hardware)
        digest = model_digest(base, recipe.revision)
        provenance = Provenance(
            stage=stage,
            identity=identity(stage, recipe, version, digest, started_from or "", str(state.num_processes)),
            base=base,
            base_digest=digest,
            started_from=started_from,
            dataset=str(dataset),
            dataset_version=version,
            seed=recipe.seed,
            engine=chosen_engine(recipe, hardware),
            precision=str(computing_type(recipe, hardware)).removeprefix("torch."),
            processes=state.num_processes,
            hardware=hardware,
            packages=packages(),
            git_commit=git_commit(),
        )
        run = cls(out / stage, recipe, provenance, state)
        with state.main_process_first():
            if replace and run.is_main:
                run._clear()
            run._begin()
        set_seed(recipe.seed)  # before the model is loaded: a new adapter begins with random numbers
        return run

    @contextmanager
    def training(self, stage: StageRecipe) -> Iterator[Curves | None]:
        """The time in which the trainer works: its errors in one line each, and the curves to write to."""
        step = _step(self.checkpoint) if self.checkpoint else 0
        curves = Curves(self.work, from_step=step) if self.is_main else nullcontext()
        with explained(self.recipe, stage, work=self.work), curves as opened:
            yield opened

    def train(self, trainer: "Trainer") -> None:
        """Measure the validation split and train; a resumed run has measured it before, and one that had ended is not
        trained further: its best weights are taken.
        """
        settle_trainer(trainer)
        keep_precision(trainer)
        if self.checkpoint and (state := _ended(self.checkpoint)):
            trainer.state = state
            best = self.work / f"checkpoint-{state.best_global_step}"
            model = cast("PeftModel", trainer.model)
            model.load_adapter(str(best), model.active_adapter)
            share(trainer)
        else:
            trainer.args.eval_on_start = self.checkpoint is None  # in training, where FSDP has shared the model
            trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)

    def keep(
        self,
        trainer: "Trainer",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        samples: dict[str, int],
        too_long: dict[str, int],
    ) -> TrainingReport:
        """Measure the kept weights, save the adapter with its record and curves, and give the folder its name."""
        after = measured(trainer.evaluate())
        self._save(trainer, tokenizer)
        state = trainer.state
        before = next(line for line in state.log_history if "eval_loss" in line)
        report = TrainingReport(
            stage=self.provenance.stage,
            folder=str(self.folder),
            samples=samples,
            too_long=too_long,
            rows=trainer.num_examples(trainer.get_train_dataloader()),
            steps=state.global_step,
            best_step=state.best_global_step,
            stopped_early=state.global_step < state.max_steps,
            resumed_from=_step(self.checkpoint) if self.checkpoint else None,
            trained_parameters=trainer.get_num_trainable_parameters(),
            before=measured(before),
            after=after,
            seconds=round(time.monotonic() - self._begun, 1),
            peak_memory_bytes=peak_memory(self.provenance.hardware),
        )
        if self.is_main:
            title = f"{self.provenance.stage}: {self.provenance.base}"
            draw_curves(self.work, title=title)
            write_record(self.work, provenance=self._now_that_the_base_is_here(), report=report)
            self._finish()
        self._state.wait_for_everyone()
        return report

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self._state.is_main_process)

    def _clear(self) -> None:
        """Remove what another run left in this place."""
        for place in (self.folder, self.work):
            if (place / RECORD).is_file() and _identity(place) != self.provenance.identity:
                shutil.rmtree(place)

    def _begin(self) -> None:
        if self.is_main and _identity(self.work) == self.provenance.identity and is_whole(self.work):
            self._finish()  # killed before it had its name
        if self.folder.exists():
            if _identity(self.folder) != self.provenance.identity:
                raise UsageError(
                    f"{self.folder} holds another run's weights", hint="Give another --out, or remove that folder."
                )
            self.report = read_report(self.folder).model_copy(update={"skipped": True})
            return
        if self.is_main:
            unfinished(self.folder)
            if (self.work / RECORD).is_file() and _identity(self.work) != self.provenance.identity:
                raise UsageError(
                    f"{self.work} is the beginning of a run with another recipe, dataset or base",
                    hint="Give another --out, or remove that folder.",
                )
            write_recipe(self.recipe, self.work)
            write_record(self.work, provenance=self.provenance)
            self._tell()
        self.checkpoint = last_checkpoint(self.work)

    def _now_that_the_base_is_here(self) -> Provenance:
        """What the run was made with, and the files of a base that may have been downloaded for it."""
        commit, files = cached_files(self.provenance.base, self.recipe.revision) or (None, None)
        return self.provenance.model_copy(update={"base_commit": commit, "base_files": files})

    def _finish(self) -> None:
        remove_checkpoints(self.work)
        finished(self.folder)

    def _tell(self) -> None:
        for line in self.recipe.described():
            _log.info("%s", line)
        for name, value in self.provenance.model_dump(mode="json").items():
            _log.info("%s: %s", name, value)

    def _save(self, trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase") -> None:
        """The adapter in the trainer's own way, which gathers shards, without what only resuming needs."""
        folder = self.work / ADAPTER
        trainer.save_model(str(folder))
        if self.is_main:
            tokenizer.save_pretrained(folder)
            for leftover in (folder / "training_args.bin", folder / "README.md", self.work / "README.md"):
                leftover.unlink(missing_ok=True)  # a pickle, and model cards that know nothing of this run
            shutil.rmtree(folder / "ref", ignore_errors=True)


def processes(hardware: Hardware) -> "PartialState":
    """The processes of this run: those that ``accelerate launch`` started, or this one."""
    from accelerate import PartialState

    return PartialState(cpu=hardware.device == "cpu")


def _identity(folder: Path) -> str | None:
    provenance = read_provenance(folder)
    return provenance.identity if provenance else None


def _ended(checkpoint: Path) -> "TrainerState | None":
    """The state of a run that came to its last step, or stopped early, with this checkpoint."""
    from transformers import TrainerState
    from transformers.trainer import TRAINER_STATE_NAME

    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    ended = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
    return state if ended else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
