"""Direct preference optimisation: from the SFT adapter towards the author's answers, held to a frozen copy of that adapter."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import Split
from llm_engineering.training.data import dataset_version, read_preferences
from llm_engineering.training.hardware import detect, letting_go, limit_threads, require_training
from llm_engineering.training.loading import load, unrounded
from llm_engineering.training.provenance import folder_digest, model_digest, read_provenance, read_recipe
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.render import fitting_preferences, require_rows
from llm_engineering.training.report import TrainingReport
from llm_engineering.training.run import ADAPTER, Run
from llm_engineering.training.terminal import settle

if TYPE_CHECKING:
    from transformers import TrainerCallback


@letting_go()
def dpo(
    recipe: Recipe,
    *,
    dataset: Path,
    out: Path,
    start: Path | None = None,
    replace: bool = False,
    callbacks: Sequence["TrainerCallback"] = (),
) -> TrainingReport:
    """Train the recipe's DPO stage; adapter, record and curves come to lie in ``out/dpo``.

    It starts from the SFT stage in ``start``, by default ``out/sft``, whose dataset may be another one. No second model is
    held: the reference is a frozen copy of the adapter beside the trained one. Killed and run again it goes on; finished it
    is not repeated.
    """
    require_training()
    pairs = read_preferences(dataset, Split.TRAIN)
    held_out = read_preferences(dataset, Split.VALIDATION)
    hardware = detect()
    limit_threads(recipe)
    settle()
    stage = start or out / "sft"
    adapter = stage / ADAPTER
    base = _base_of(recipe, stage)

    run = Run.open(
        "dpo", recipe, base=base, dataset=dataset, version=dataset_version(dataset), hardware=hardware, out=out,
        started_from=folder_digest(adapter), replace=replace,
    )  # fmt: skip
    if run.report:
        return run.report

    numbers = recipe.dpo
    with run.training(numbers) as curves:
        model, tokenizer = load(base, recipe, hardware, adapter=adapter)
        train = fitting_preferences(tokenizer, pairs, context=recipe.context)
        validation = fitting_preferences(tokenizer, held_out, context=recipe.context)
        require_rows(len(train.rows), split="train", context=recipe.context)
        require_rows(len(validation.rows), split="validation", context=recipe.context)

        # After the engine: Unsloth changes what these import.
        from datasets import Dataset
        from trl import DPOConfig

        from llm_engineering.training.arguments import one_device, shared_arguments
        from llm_engineering.training.pairs import PairTrainer
        from llm_engineering.training.watch import watching

        with unrounded(model):
            trainer = PairTrainer(
                model=model,  # carrying an adapter and given no reference, TRL adds the frozen copy itself
                args=one_device(
                    DPOConfig(
                        **shared_arguments(recipe, numbers, hardware, work=run.work),
                        beta=numbers.beta,
                        loss_type=list(numbers.loss),
                        loss_weights=list(numbers.loss_weights) if numbers.loss_weights else None,
                        label_smoothing=numbers.label_smoothing,
                    )
                ),
                train_dataset=Dataset.from_list([row._asdict() for row in train.rows]),
                eval_dataset=Dataset.from_list([row._asdict() for row in validation.rows]),
                processing_class=tokenizer,
                callbacks=[*watching(curves, numbers, stage="dpo"), *callbacks],
            )
        run.train(trainer)
        return run.keep(
            trainer,
            tokenizer,
            samples={"train": len(train.rows), "validation": len(validation.rows)},
            too_long={"train": train.too_long, "validation": validation.too_long},
        )


def _base_of(recipe: Recipe, stage: Path) -> str:
    """The base that the finished SFT stage was trained on; :class:`UsageError` if it is not the recipe's."""
    provenance = read_provenance(stage)
    if provenance is None or not (stage / ADAPTER).is_dir():
        raise UsageError(
            f"There is no finished SFT stage in {stage}", hint="Run the sft stage first, into the same --out."
        )
    base = recipe.model if isinstance(recipe.model, str) else str(stage.parent / "base")
    if read_recipe(stage).model != recipe.model or provenance.base_digest != model_digest(base, recipe.revision):
        raise UsageError(
            f"The adapter in {stage} was trained on another base: {provenance.base}",
            hint="Train the sft stage on the base of this recipe.",
        )
    return base
