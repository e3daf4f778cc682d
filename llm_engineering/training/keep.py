"""Keeping what was trained: export behind the gate, then the registry, as a candidate."""

import hashlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_engineering.domain.errors import StoreError
from llm_engineering.domain.ports import Registry
from llm_engineering.domain.registry import Lineage, ModelVersion, checked_name
from llm_engineering.training.export import ExportReport, export
from llm_engineering.training.gguf import find_converter
from llm_engineering.training.lineage import lineage_of
from llm_engineering.training.parity import Tolerances
from llm_engineering.training.run import ADAPTER

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
    out = work / f"export-{uuid.uuid4().hex}"
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        report = export(run, out, name=name, base=base, gguf=gguf, evaluation=evaluation, tolerances=tolerances)
        version = registry.register(out, name=name, lineage=lineage, metrics=evaluation)
        return version, report.model_copy(update={"folder": str(registry.folder(version))})
    finally:
        shutil.rmtree(out, ignore_errors=True)


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
