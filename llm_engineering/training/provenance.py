"""What a run was made with, printed at its start and kept beside the weights."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from llm_engineering.domain.chat import VERSION
from llm_engineering.domain.entities import Frozen, Moment, now
from llm_engineering.training.hardware import Hardware
from llm_engineering.training.recipe import Recipe

RECORD = "run.json"
RECIPE = "recipe.yaml"
_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers", "unsloth")


class Provenance(Frozen):
    """Everything that decided the weights besides the recipe."""

    stage: str
    identity: str
    """Digest of the recipe's part for this stage, the dataset, the base and the adapter it started from."""
    base: str
    base_digest: str
    base_commit: str | None = None
    """Of a base with a name: the commit that was read."""
    base_files: str | None = None
    """Of a base with a name: digest of its files, by which it is known in a folder of any name."""
    started_from: str | None = None
    """Digest of the adapter that the stage began with."""
    dataset: str
    dataset_version: str
    prompt_version: int = VERSION
    seed: int
    engine: str
    precision: str
    processes: int = 1
    hardware: Hardware
    packages: dict[str, str] = Field(default_factory=dict)
    python: str = platform.python_version()
    git_commit: str | None = None
    at: Moment = Field(default_factory=now)


def packages() -> dict[str, str]:
    """Versions of the packages that training depends on, as far as they are installed."""
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_commit() -> str | None:
    """Commit of the code that runs, with ``+`` where files differ from it; ``None`` outside a repository."""
    root = Path(__file__).parents[2]
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return f"{commit}+" if _git(root, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def identity(stage: str, recipe: Recipe, *parts: str) -> str:
    """Digest of what makes a stage's weights, the wording of prompts among it; the numbers of the other stage do not count."""
    content = recipe.model_dump(mode="json", exclude={"dpo"} if stage == "sft" else None)
    return hashlib.sha256(json.dumps([stage, VERSION, content, *parts], sort_keys=True).encode()).hexdigest()[:16]


def run_name(recipe: Recipe, *, dataset: str, version: str) -> str:
    """Name of the folder of a run: another one for another recipe of SFT, version of the dataset or wording of prompts."""
    return f"{dataset}-{identity('sft', recipe, version)[:12]}"


def folder_digest(folder: Path) -> str:
    """Digest of a model's or adapter's folder: its configuration whole, both ends of each file of weights."""
    return _digest_of([*folder.glob("*.json"), *folder.glob("*.safetensors")])


def files_digest(folder: Path) -> str:
    """The same of what every copy of a model holds: of ``config.json`` and the weights alone."""
    weights = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return _digest_of([*folder.glob("config.json"), *weights])


def _digest_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:16]


def model_digest(name: str, revision: str | None) -> str:
    """Digest of a local model; for a model with a name, the name and its revision."""
    folder = Path(name)
    return folder_digest(folder) if folder.is_dir() else f"{name}@{revision or 'main'}"


def cached_files(name: str, revision: str | None) -> tuple[str, str] | None:
    """Commit and digest of a base with a name as it lies in the local cache; ``None`` for a folder, or where it does not."""
    from transformers.utils.hub import cached_file

    if Path(name).is_dir():
        return None
    try:
        config = cached_file(name, "config.json", revision=revision, local_files_only=True)
    except OSError:  # not there, or no name of a base
        return None
    folder = Path(config).parent if config else None
    return (folder.name, files_digest(folder)) if folder else None


def revision_in(digest: str, name: str) -> str | None:
    """The revision that a digest of :func:`model_digest` tells of the model of that name; ``None`` for a folder's."""
    model, at, revision = digest.rpartition("@")
    return revision if at and model == name else None


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """The resolved recipe: every value, inherited ones too."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    (folder / RECIPE).write_text(text, encoding="utf-8")


def read_recipe(folder: Path) -> Recipe:
    """The recipe that a stage was trained with."""
    return Recipe.model_validate(yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8")))


def write_record(folder: Path, **parts: Frozen) -> None:
    """``run.json``: each part under its name, all of it or none."""
    content: dict[str, Any] = {name: part.model_dump(mode="json") for name, part in parts.items()}
    part = folder / f"{RECORD}.part"
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    part.replace(folder / RECORD)


def read_provenance(folder: Path) -> Provenance | None:
    """What the record of a stage says it was made with; ``None`` where there is no readable record."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Provenance.model_validate(content["provenance"])
    except (OSError, ValueError, KeyError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
