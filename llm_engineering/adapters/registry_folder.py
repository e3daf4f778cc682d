"""The registry of trained models as a folder.

::

    models-registry/
    └── NAME/
        ├── lock          held by the one process that writes
        ├── stages.json   stage of every version, and which was current when; replaced atomically
        └── 3/            a version; appears whole, by a rename
            ├── model.json    its record
            └── …             the files that were registered

Readers take no lock: they see the folder of a version whole or not at all, and one state of the stages or the next.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, ValidationError

from llm_engineering.adapters.sparse_files import replace_file, sync_folder
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import StoreError, StoreUnavailable, UsageError
from llm_engineering.domain.registry import Lineage, ModelFile, ModelStage, ModelVersion, Reference, checked_name

_RECORD, _STAGES, _LOCK, _UNFINISHED = "model.json", "stages.json", "lock", ".unfinished"
_WEIGHTS = (".safetensors", ".gguf", ".bin")
_LIST = "See what there is: poe models list"


class _Stages(Frozen):
    """``stages.json``."""

    stages: dict[int, ModelStage] = Field(default_factory=dict)
    """By version; one that is not named is a candidate."""
    history: tuple[int, ...] = ()
    """Versions in the order in which they became current."""
    erased: tuple[int, ...] = ()

    @property
    def current(self) -> int | None:
        return next((version for version, stage in self.stages.items() if stage is ModelStage.CURRENT), None)

    def moved(self, version: int, stage: ModelStage) -> "_Stages":
        """The stages with this version there, and the one that was current before it retired."""
        stages = dict(self.stages)
        if stage is ModelStage.CURRENT and self.current is not None:
            stages[self.current] = ModelStage.RETIRED
        stages[version] = stage
        history = (*self.history, version) if stage is ModelStage.CURRENT else self.history
        return self.model_copy(update={"stages": stages, "history": history})


class FolderRegistry:
    """The port :class:`~llm_engineering.domain.ports.Registry` in a folder, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def register(
        self, folder: Path, *, name: str, lineage: Lineage, metrics: Mapping[str, float] | None = None
    ) -> ModelVersion:
        """See the port. The copy is made beside its place and renamed; what a killed process left there is removed."""
        home = self._root / checked_name(name)
        try:
            files = tuple(_files(folder))
        except OSError as error:
            raise UsageError(f"{folder} cannot be read: {error.strerror or error}", hint="Name a folder.") from error
        if not any(file.path.endswith(_WEIGHTS) for file in files):
            raise UsageError(f"There are no weights in {folder}", hint="Name the folder of a finished export.")
        digest = _digest(files)
        with self._writing(home):
            shutil.rmtree(home / _UNFINISHED, ignore_errors=True)
            known = self.versions(name)
            for model in known:
                if (model.digest, model.lineage, model.erased) == (digest, lineage, False) and not self._fault(model):
                    return model
            model = ModelVersion(
                name=name,
                version=max((model.version for model in known), default=0) + 1,
                digest=digest,
                lineage=lineage,
                metrics=dict(metrics or {}),
                files=files,
            )
            work = home / _UNFINISHED
            shutil.copytree(folder, work)
            if tuple(_files(work)) != files:
                raise StoreError(f"{folder} changed while it was registered", hint="Register it again.")
            replace_file(work / _RECORD, model.model_dump_json(indent=1, exclude={"stage", "erased"}).encode())
            work.rename(home / str(model.version))
            sync_folder(home)
        return model

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """See the port."""
        pattern = checked_name(name) if name else "*"
        homes = sorted(path.parent for path in self._root.glob(f"{pattern}/{_LOCK}"))
        return [model for home in homes for model in self._of(home)]

    def find(self, reference: str) -> ModelVersion:
        """See the port."""
        name, version = Reference.parse(reference)
        if name is None:
            found = [model for model in self.versions() if model.stage is ModelStage.CURRENT]
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(f"twin:{model.name}" for model in found)
                raise UsageError(f"Several trained models are current: {names}", hint="Name one of them.")
            raise UsageError(
                f"No trained model in {self._root} is current", hint="Make one so: poe models promote NAME@VERSION"
            )
        known = self.versions(name)
        if not known:
            raise UsageError(f"There is no trained model {name} in {self._root}", hint=_LIST)
        for model in known:
            if model.version == version or (version is None and model.stage is ModelStage.CURRENT):
                return model
        if version is None:
            raise UsageError(
                f"No version of {name} is current", hint=f"Make one so: poe models promote {known[-1].reference}"
            )
        raise UsageError(f"There is no version {version} of {name}, the newest is {known[-1].version}", hint=_LIST)

    def folder(self, model: ModelVersion) -> Path:
        """See the port."""
        if fault := self._fault(model):
            raise StoreError(fault, hint=f"Train and register it again, or go back: poe models rollback {model.name}")
        return self._root / model.name / str(model.version)

    def promote(self, reference: str) -> ModelVersion:
        """See the port."""
        model = self._exactly(reference)
        with self._writing(self._root / model.name) as home:
            self.folder(model)
            stages = _stages(home)
            if stages.current != model.version:
                _keep(home, stages.moved(model.version, ModelStage.CURRENT))
        return self.find(model.reference)

    def rollback(self, name: str) -> ModelVersion:
        """See the port."""
        known = {model.version: model for model in self.versions(name)}
        if not known:
            raise UsageError(f"There is no trained model {name} in {self._root}", hint=_LIST)
        with self._writing(self._root / name) as home:
            stages = _stages(home)
            earlier = [
                version
                for version in stages.history
                if version != stages.history[-1] and version in known and version not in stages.erased
            ]
            if not earlier:
                raise UsageError(
                    f"No other version of {name} was ever current",
                    hint=f"Promote one: poe models promote {name}@VERSION",
                )
            self.folder(known[earlier[-1]])
            _keep(home, stages.moved(earlier[-1], ModelStage.CURRENT))
        return self.find(f"{name}@{earlier[-1]}")

    def retire(self, reference: str, *, erase: bool = False) -> ModelVersion:
        """See the port. The record is marked before the files go, so that a killed process leaves none that is trusted."""
        model = self._exactly(reference)
        with self._writing(self._root / model.name) as home:
            stages = _stages(home).moved(model.version, ModelStage.RETIRED)
            if erase:
                stages = stages.model_copy(update={"erased": tuple(sorted({*stages.erased, model.version}))})
            _keep(home, stages)
            if erase:
                for path in (home / str(model.version)).iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
                    elif path.name != _RECORD:
                        path.unlink()
        return self.find(model.reference)

    def saw(self, document_ids: Collection[str]) -> list[ModelVersion]:
        """See the port."""
        wanted = set(document_ids)
        return [m for m in self.versions() if not m.erased and not wanted.isdisjoint(m.lineage.document_ids)]

    def tidy(self) -> None:
        """See the port. Waits for a registration that is under way."""
        for left in self._root.glob(f"*/{_UNFINISHED}"):
            with self._writing(left.parent):
                shutil.rmtree(left, ignore_errors=True)

    def _exactly(self, reference: str) -> ModelVersion:
        if Reference.parse(reference).version is None:
            raise UsageError(f"{reference!r} names no version", hint="Name one as NAME@VERSION: poe models list")
        return self.find(reference)

    def _of(self, home: Path) -> Iterator[ModelVersion]:
        stages = _stages(home)
        for path in sorted((path for path in home.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name)):
            version = int(path.name)
            try:
                model = ModelVersion.model_validate_json((path / _RECORD).read_bytes())
            except (OSError, ValidationError) as error:
                raise StoreError(
                    f"The record of {home.name}@{path.name} is gone or damaged: {path / _RECORD}",
                    hint="Restore that file, or remove the folder of the version.",
                ) from error
            stage = stages.stages.get(version, ModelStage.CANDIDATE)
            yield model.model_copy(update={"stage": stage, "erased": version in stages.erased})

    def _fault(self, model: ModelVersion) -> str:
        """What is wrong with the files; empty if nothing is. Sizes are compared, contents are not read."""
        if model.erased:
            return f"The files of {model.reference} were erased"
        home = self._root / model.name / str(model.version)
        for file in model.files:
            path = home / file.path
            if not path.is_file():
                return f"A file of {model.reference} is gone: {path}"
            if path.stat().st_size != file.bytes:
                return f"A file of {model.reference} has changed: {path}"
        return ""

    @contextmanager
    def _writing(self, home: Path) -> Iterator[Path]:
        """Be the one process that writes under this name; waits for another one."""
        try:
            home.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield home
            finally:
                os.close(descriptor)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(home / _UNFINISHED, ignore_errors=True)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StoreUnavailable(
                f"The registry {home} cannot be written to: {'the disk is full' if full else error.strerror or error}",
                hint="Free space on its disk or make it writable, or set TWIN_HOME to another folder.",
            ) from error


def _stages(home: Path) -> _Stages:
    file = home / _STAGES
    try:
        return _Stages.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return _Stages()
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"The stages of {home.name} cannot be read: {file}",
            hint="Restore that file, or remove it and promote a version again.",
        ) from error


def _keep(home: Path, stages: _Stages) -> None:
    replace_file(home / _STAGES, stages.model_dump_json(indent=1).encode())


def _files(folder: Path) -> Iterator[ModelFile]:
    """Every file of a folder by path, without hidden ones and without the record of an earlier registration."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != _RECORD:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield ModelFile(path=name, bytes=path.stat().st_size, sha256=digest)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "no such folder", str(folder))


def _digest(files: Collection[ModelFile]) -> str:
    weights = "".join(f"{file.path} {file.sha256}\n" for file in files if file.path.endswith(_WEIGHTS))
    return hashlib.sha256(weights.encode()).hexdigest()[:16]
