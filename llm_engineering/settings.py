"""Addresses and secrets, read from the environment and ``.env`` by a call, never at import."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from llm_engineering.domain.errors import UsageError

ENV_FILE = "TWIN_ENV_FILE"
"""Variable that names another file than ``.env``; empty: none."""

_PASSWORD = re.compile(r"(://[^:/?#@]*:)(.*)@")
"""Of an address, up to its last ``@``: a password whose signs are not escaped is hidden whole."""


class Settings(BaseSettings):
    """Where everything lives. Which engine is used follows from an address, never from a flag.

    Field names in upper case are the environment variables. Secrets print as ``**********``, a password within an
    address too.
    """

    model_config = SettingsConfigDict(
        frozen=True, defer_build=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    twin_home: Path = Path(".twin")
    """Folder of everything embedded: warehouse, index, pipeline state."""
    warehouse_url: str = ""
    """A path (SQLite) or ``mongodb://…``; empty: ``TWIN_HOME/warehouse.sqlite``."""
    warehouse_database: str = "twin"
    """Database name on a MongoDB server, where the address names none."""
    index_url: str = ""
    """A path (Qdrant Edge) or ``http(s)://…`` (Qdrant server); empty: ``TWIN_HOME/index``."""
    index_api_key: SecretStr | None = None
    index_collection: str = "twin"
    """Name of the collection, on a server the alias that readers follow."""
    embedding_model: str = "all-MiniLM-L6-v2"
    """Name or folder of a sentence-transformers model; the default comes packaged, nothing is downloaded."""
    reranker_model: str = ""
    """Name or folder of a sentence-transformers cross-encoder; empty: none."""
    llm_base_url: str = ""
    """Base URL of an OpenAI-compatible endpoint, as in ``http://127.0.0.1:8001/v1``; empty with a key: OpenAI's own."""
    llm_model: str = "offline"
    """Model name at that endpoint; ``offline`` answers by quoting the passages, without any model; ``twin:current``,
    ``twin:NAME`` or ``twin:NAME@VERSION`` is a trained model of the registry in ``TWIN_HOME``, loaded in this process."""
    llm_api_key: SecretStr | None = Field(default=None, validation_alias=AliasChoices("llm_api_key", "openai_api_key"))
    api_keys: SecretStr = SecretStr("")
    """Comma-separated SHA-256 hashes of the API keys that the service accepts; empty: only loopback may call."""
    cors_origins: str = ""
    """Comma-separated origins that browsers may call the service from."""
    crawl_allow_private: str = ""
    """Comma-separated hosts, ``host:port`` or networks (CIDR) that a crawl may contact although they are not public."""
    github_token: SecretStr | None = None
    """For private repositories; sent to github.com alone."""
    hf_token: SecretStr | None = None
    """For pushing datasets and models to the Hugging Face Hub; nothing is pushed unless a configuration names a repository."""
    log_level: str = Field(default="WARNING", pattern="(?i)^(debug|info|warning|error)$")

    @model_validator(mode="after")
    def _addresses(self) -> "Settings":
        home = self.twin_home.expanduser()
        object.__setattr__(self, "twin_home", home)
        object.__setattr__(self, "warehouse_url", self.warehouse_url or str(home / "warehouse.sqlite"))
        object.__setattr__(self, "index_url", self.index_url or str(home / "index"))
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _PASSWORD.sub(r"\1**********@", value) if isinstance(value, str) else value

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret in plain text, passwords within addresses included, for the log to blot out."""
        kept = (self.llm_api_key, self.index_api_key, self.github_token, self.hf_token)
        keys = [secret.get_secret_value() for secret in kept if secret]
        written = [
            match[2]
            for url in (self.warehouse_url, self.index_url, self.llm_base_url)
            for match in _PASSWORD.finditer(url)
        ]
        return tuple(dict.fromkeys(secret for secret in (*keys, *written, *map(unquote, written)) if secret))

    @property
    def private_hosts(self) -> tuple[str, ...]:
        """The entries of ``CRAWL_ALLOW_PRIVATE``."""
        return tuple(entry.strip() for entry in self.crawl_allow_private.split(",") if entry.strip())


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and from ``.env`` (or what ``TWIN_ENV_FILE`` names).

    A bad value is a :class:`UsageError` that names the variable and never shows a secret.
    """
    try:
        return Settings(_env_file=os.environ.get(ENV_FILE, ".env") or None, **overrides)  # type: ignore[arg-type]  # pydantic-settings takes any field by keyword
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise UsageError(f"Bad settings: {problems}", hint="Correct the environment variable or .env.") from None


def variables() -> frozenset[str]:
    """Names, in upper case, of the environment variables that settings are read from."""
    names = set(Settings.model_fields)
    for field in Settings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            names |= {choice for choice in field.validation_alias.choices if isinstance(choice, str)}
    return frozenset(name.upper() for name in names)
