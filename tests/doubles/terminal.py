"""Someone at a terminal: starts a tool as a person does, with a home of their own, and reads what it says."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("ZENML", "TWIN_HOME", "COV", "WAREHOUSE", "INDEX", "CRAWL")
"""Beginnings of variables that would name another home."""
PROGRESS = re.compile(r"(crawl|sync): [\d,]+( of [\d,]+)?( \(.*\))?")


def environment(home: Path, **values: str) -> dict[str, str]:
    """This process's environment without what names another home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"TWIN_HOME": str(home), "CRAWL_ALLOW_PRIVATE": "127.0.0.1"} | values


def types(*arguments: str, home: Path, under: tuple[str, ...] = (), **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m …`` to its end; ``under`` is a command that runs it, ``options`` are those of ``subprocess.run``."""
    extra: Mapping[str, str] = options.pop("env", {})
    return subprocess.run(
        [*under, sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment(home, **extra),
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def complaint(result: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line on standard error of a tool that ended with that status; progress of long work is no complaint."""
    assert result.returncode == status, result.stdout + result.stderr
    lines = [line for line in result.stderr.strip().splitlines() if not PROGRESS.fullmatch(line)]
    assert len(lines) == 1, result.stderr
    return lines[0]
