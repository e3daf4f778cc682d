"""Keeping what was trained: export behind the gate, then the registry, as a candidate."""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_engineering.domain.errors import StoreError
from llm_engineering.domain.ports import Registry
from llm_engineering.domain.registry import Lineage, ModelVersion, checked_name
from llm_engineering.training.export import ExportReport, export
from llm_engineering.training.gguf import find_converter
from llm_engineering.training.lineage import lineage_of
from llm_engineering.training.parity import Tolerances
from llm_engineering.training.run import ADAPTER

_EXPORT, _LOCK = "export-", "lock"
_WEIGHTS = f"{ADAPTER}/adapter_model.safetensors"


def keep(
    run: Path,
    *,
    name: str,
    registry: Registry,
    work: Path,
    start: Path | None = None,
    base: str | None = None,
    gguf: Sequence[str] = (),
    evaluation: Mapping[str, float] | None = None,
    tolerances: Tolerances | None = None,
) -> tuple[ModelVersion, ExportReport | None]:
    """Export a finished run and register it as the next version of the name; the report is ``None`` if it was kept before.

    ``work`` is a folder for what is under way, on the registry's disk. ``start`` and ``base`` say where the SFT run and the
    base lie now, where they were moved. Raises what :func:`~llm_engineering.training.export.export` and
    :func:`~llm_engineering.training.lineage.lineage_of` raise; nothing is registered then.
    """
    checked_name(name)
    if gguf:
        find_converter(gguf)
    lineage = lineage_of(run, start=start)
    if known := find_kept(run, name=name, registry=registry, lineage=lineage, gguf=gguf):
        return known, None
    out = work / f"{_EXPORT}{uuid.uuid4().hex}"
    with _exporting(work):
        try:
            report = export(run, out, name=name, base=base, gguf=gguf, evaluation=evaluation, tolerances=tolerances)
            version = registry.register(out, name=name, lineage=lineage, metrics=evaluation)
            return version, report.model_copy(update={"folder": str(registry.folder(version))})
        finally:
            shutil.rmtree(out, ignore_errors=True)


def clear_exports(work: Path) -> None:
    """Remove the weights that killed exports left in ``work``; nothing while one is under way."""
    if work.is_dir():
        with _exporting(work):
            pass


@contextmanager
def _exporting(work: Path) -> Iterator[None]:
    """Be one of those that export into ``work``. Who is alone there first removes what killed ones left."""
    work.mkdir(parents=True, exist_ok=True)
    lock = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in work.glob(f"{_EXPORT}*"):
                shutil.rmtree(left)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


def find_kept(
    run: Path, *, name: str, registry: Registry, lineage: Lineage, gguf: Sequence[str] = ()
) -> ModelVersion | None:
    """The version of the name that holds this very adapter with this lineage and these GGUF variants, whole."""
    with (run / _WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for version in registry.versions(name):
        files = {file.path: file.sha256 for file in version.files}
        same = files.get(_WEIGHTS) == digest and version.lineage == lineage and not version.erased
        if same and all(any(path.endswith(f"-{variant}.gguf") for path in files) for variant in gguf):
            try:
                registry.folder(version)
            except StoreError:
                continue
            return version
    return None
