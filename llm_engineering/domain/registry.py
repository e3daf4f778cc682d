"""What a registry of trained models speaks about: versions, their stages, and where they came from."""

import re
from enum import StrEnum
from typing import NamedTuple

from pydantic import Field

from llm_engineering.domain.entities import Frozen, Moment, now
from llm_engineering.domain.errors import UsageError

PREFIX = "twin:"
"""What an ``LLM_MODEL`` that names a registered model begins with."""
CURRENT = "current"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HINT = "Names are up to 64 lower-case letters, digits, dots, dashes and underscores, and versions numbers: me@3"


class ModelStage(StrEnum):
    """Where a version stands. Of a name at most one version is current."""

    CANDIDATE = "candidate"
    """Registered, never promoted."""
    CURRENT = "current"
    """What ``twin:NAME`` and ``twin:current`` answer with."""
    RETIRED = "retired"
    """Was current, or is not to be used any more; promoting it brings it back."""


class Lineage(Frozen):
    """From a model back to the documents whose words are in its weights."""

    base: str
    """Name or folder of the base."""
    base_digest: str
    dataset: str
    """Folder of the dataset when the run was made."""
    dataset_version: str
    document_ids: tuple[str, ...]
    """Documents of the training and validation splits, sorted. Held-out documents are not among them."""
    trained: tuple[str, ...] = ()
    """Stages of training whose weights are in it, such as ``sft`` and ``dpo``."""
    prompt_version: int
    """Version of the wording that it was trained on."""


class ModelFile(Frozen):
    """One file of a version."""

    path: str
    """Relative, with slashes."""
    bytes: int
    sha256: str


class ModelVersion(Frozen):
    """One registered model. Everything but its stage stays as it was registered."""

    name: str
    version: int = Field(ge=1)
    stage: ModelStage = ModelStage.CANDIDATE
    digest: str
    """Of the files of weights: the same weights have the same digest."""
    lineage: Lineage
    metrics: dict[str, float] = Field(default_factory=dict)
    """Of its evaluation, as far as it was known at registration."""
    files: tuple[ModelFile, ...]
    erased: bool = False
    """Whether its files were removed for good; the record stays."""
    at: Moment = Field(default_factory=now)

    @property
    def reference(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"


class Reference(NamedTuple):
    """What ``NAME@VERSION``, ``NAME`` or ``current`` names; without a version the current one, without a name the only one."""

    name: str | None
    version: int | None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference, with or without ``twin:``; :class:`UsageError` if it is none."""
        name, at, version = text.strip().removeprefix(PREFIX).partition("@")
        if name == CURRENT and not at:
            return cls(None, None)
        if at and not re.fullmatch(r"[1-9]\d{0,8}", version):
            raise UsageError(f"{text!r} names no version of a model", hint=_HINT)
        return cls(checked_name(name), int(version) if at else None)


def checked_name(name: str) -> str:
    """The name of a model; :class:`UsageError` if it cannot be one."""
    if not _NAME.fullmatch(name) or name == CURRENT:
        raise UsageError(f"{name!r} cannot be the name of a model", hint=_HINT)
    return name
