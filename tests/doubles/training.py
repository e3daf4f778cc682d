"""A dataset folder and a recipe small enough that a whole stage of training takes a second or two."""

from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet

from llm_engineering.training.recipe import Recipe

AUTHOR = "Ada Winter"
_COLOURS = ("red", "green", "blue", "amber")
_THINGS = ("index", "chunk", "crawler", "watermark", "tombstone", "adapter", "sample", "window")


def rows(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Samples about coloured things, all different."""
    return [
        {
            "instruction": f"What colour is {_THINGS[i % 8]} {i}?",
            "answer": f"My {_THINGS[i % 8]} {i} is {_COLOURS[i % 4]}, and it stays {_COLOURS[i % 4]}.",
            "author": AUTHOR,
        }
        for i in range(first, first + count)
    ]


def write_dataset(
    folder: Path, *, train: int = 12, validation: int = 4, samples: list[dict[str, Any]] | None = None
) -> Path:
    """A dataset folder whose rejected answers are of another voice; ``samples`` replaces the training samples."""
    splits = {"train": samples or rows(train), "validation": rows(validation, first=100), "test": rows(4, first=200)}
    for split, content in splits.items():
        pairs = [
            {"instruction": row["instruction"], "chosen": row["answer"], "rejected": "Colours vary.", "author": AUTHOR}
            for row in content
        ]
        write_split(folder, "instruct", split, content)
        write_split(folder, "preference", split, pairs)
    return folder


def write_split(folder: Path, part: str, split: str, content: list[dict[str, Any]]) -> None:
    """One Parquet file of a dataset."""
    columns = (
        ("instruction", "answer", "author") if part == "instruct" else ("instruction", "chosen", "rejected", "author")
    )
    (folder / part).mkdir(parents=True, exist_ok=True)
    table = arrow.table({name: arrow.array([row[name] for row in content], arrow.string()) for name in columns})
    parquet.write_table(table, folder / part / f"{split}.parquet")


def small_recipe(**changes: Any) -> Recipe:
    """A base of two layers, and six steps of each stage with a checkpoint every second one."""
    stage = {
        "max_steps": 6, "batch_size": 2, "accumulation": 1, "evaluate_every": 2, "log_every": 1, "patience": None,
        "gradient_checkpointing": False, "keep_checkpoints": 4, "warmup": 0,
    }  # fmt: skip
    content: dict[str, Any] = {
        "model": {
            "vocabulary": 600, "hidden": 32, "layers": 2, "heads": 2, "intermediate": 64, "steps": 20, "batch_size": 4,
            "window": 32,
        },
        "context": 256, "precision": "float32", "threads": 1, "lora": {"rank": 4, "alpha": 8},
        "sft": {**stage, "learning_rate": 5e-3}, "dpo": {**stage, "learning_rate": 5e-3},
    }  # fmt: skip
    for path, value in changes.items():
        *parents, name = path.split("__")
        part = content
        for parent in parents:
            part = part[parent]
        part[name] = value
    return Recipe.model_validate(content)
