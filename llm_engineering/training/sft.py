"""Supervised fine-tuning: an adapter that answers instructions in the author's own words."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.samples import Split
from llm_engineering.training.base import resolve_base
from llm_engineering.training.data import dataset_version, read_examples
from llm_engineering.training.hardware import detect, letting_go, limit_threads, require_training
from llm_engineering.training.loading import load, unrounded
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.render import fitting_examples, require_rows
from llm_engineering.training.report import TrainingReport
from llm_engineering.training.run import Run, processes
from llm_engineering.training.terminal import settle

if TYPE_CHECKING:
    from transformers import TrainerCallback


@letting_go()
def sft(recipe: Recipe, *, dataset: Path, out: Path, callbacks: Sequence["TrainerCallback"] = ()) -> TrainingReport:
    """Train the recipe's SFT stage; adapter, record and curves come to lie in ``out/sft``.

    A killed run goes on from its last whole checkpoint and comes to the same weights. A finished one is not repeated.
    """
    require_training()
    examples = read_examples(dataset, Split.TRAIN)
    held_out = read_examples(dataset, Split.VALIDATION)
    hardware = detect()
    limit_threads(recipe)
    settle()
    with processes(hardware).main_process_first():
        base = resolve_base(recipe, examples, out / "base")

    version = dataset_version(dataset)
    run = Run.open("sft", recipe, base=base, dataset=dataset, version=version, hardware=hardware, out=out)
    if run.report:
        return run.report

    numbers = recipe.sft
    with run.training(numbers) as curves:
        model, tokenizer = load(base, recipe, hardware)
        train = fitting_examples(tokenizer, examples, context=recipe.context)
        validation = fitting_examples(tokenizer, held_out, context=recipe.context)
        require_rows(len(train.rows), split="train", context=recipe.context)
        require_rows(len(validation.rows), split="validation", context=recipe.context)

        # After the engine: Unsloth changes what these import.
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        from llm_engineering.training.arguments import one_device, shared_arguments
        from llm_engineering.training.watch import watching

        with unrounded(model):
            trainer = SFTTrainer(
                model=model,
                args=one_device(
                    SFTConfig(
                        **shared_arguments(recipe, numbers, hardware, work=run.work),
                        packing=numbers.packing,
                        eval_packing=False,
                        neftune_noise_alpha=numbers.neftune_alpha,
                    )
                ),
                train_dataset=Dataset.from_list([row._asdict() for row in train.rows]),
                eval_dataset=Dataset.from_list([row._asdict() for row in validation.rows]),
                processing_class=tokenizer,
                callbacks=[*watching(curves, numbers, stage="sft"), *callbacks],
            )
        run.train(trainer)
        return run.keep(
            trainer,
            tokenizer,
            samples={"train": len(train.rows), "validation": len(validation.rows)},
            too_long={"train": train.too_long, "validation": validation.too_long},
        )
