"""What every entry point shares: typed configuration from YAML, one clear line for an error, the exit status."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import typer
import yaml
from pydantic import BaseModel, ValidationError

from llm_engineering import telemetry
from llm_engineering.domain.errors import TwinError, UsageError
from llm_engineering.settings import Settings, load_settings

Shape = TypeVar("Shape", bound=BaseModel)

INTERRUPTED = 130
BAD_USAGE: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""Root of every complaint about the command line; typer carries its own copy of click and exports only the leaves."""


def main(app: Callable[..., Any]) -> None:
    """Run a typer application: 0 done, 1 the run failed, 2 bad usage or configuration; errors are one line on stderr."""
    try:
        status = app(standalone_mode=False)  # what typer.Exit carries comes back as the value; Ctrl-C as 130
    except TwinError as error:
        status = _say(str(error), error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BAD_USAGE as error:
        status = _say(error.format_message(), 2)
    if status == INTERRUPTED:
        _say("Stopped. What was stored is kept; run it again to go on.", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _say(line: str, status: int) -> int:
    """One line on standard error; a complaint without words has shown its help already."""
    if line.strip():
        sys.stderr.write(f"{' '.join(line.split())}\n")
    return status


def settings_with_logging() -> Settings:
    """The settings, with logging set up at their level."""
    settings = load_settings()
    telemetry.set_up_logging(settings.log_level, structured=False, secrets=settings_secrets(settings))
    return settings


def settings_secrets(settings: Settings) -> list[str]:
    """Every secret of the settings, for the log to blot out."""
    return list(settings.secrets)


def load_config(path: Path, shape: type[Shape]) -> Shape:
    """Read a YAML file into its typed shape; :class:`UsageError` names the file and each offending entry."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"The configuration {path} cannot be read: {error.strerror}", hint="Give --config an existing file."
        ) from error
    except Exception as error:  # yaml's constructors let anything out: `!!bool y` is a KeyError
        said = str(error) if isinstance(error, yaml.YAMLError | ValueError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"The configuration {path} is not YAML: {said}", hint="Compare it with the files in configs/."
        ) from error
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"The configuration {path} is not a mapping", hint="Compare it with the files in configs/.")
    try:
        return shape.model_validate(content or {})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors(include_url=False)
        )
        raise UsageError(
            f"The configuration {path} is wrong at {problems}", hint="Compare it with the files in configs/."
        ) from error
