"""Run benchmarks by name, or all of them, and print their Markdown tables.

``poe bench``                 all of them, into docs/benchmarks.md
``poe bench ingest replay``   these two, to the terminal
"""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from llm_engineering.training.hardware import detect

NAMES = (
    "ingest",
    "changes",
    "replay",
    "retrieval",
    "latency",
    "confidence",
    "serve",
    "groundedness",
    "style",
    "dataset",
    "train",
    "twin",
)
DOCUMENT = Path("docs/benchmarks.md")


def main(names: list[str]) -> int:
    """Run each benchmark in a process of its own, so that its memory is its own; exit status 1 if one misses a floor."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        sys.stderr.write(f"No benchmark {', '.join(unknown)}. There are: {', '.join(NAMES)}.\n")
        return 2
    parts, status = [], 0
    for name in names or NAMES:
        print(f"==> {name}", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True, check=False
        )
        status |= done.returncode
        print(done.stdout, flush=True)
        parts.append(f"{done.stdout.strip()}\n\n`poe bench {name}`\n")
    if not names:
        DOCUMENT.write_text(_preamble() + "\n".join(parts), encoding="utf-8")
    return 1 if status else 0


def _preamble() -> str:
    gpu = detect().name if detect().device == "cuda" else "no GPU"
    machine = f"{platform.machine()}, Python {platform.python_version()}, {_cores()} cores, {gpu}"
    return (
        "# Benchmarks\n\n"
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {machine}, a shared, noisy machine: read times as ratios within a table.\n"
        "`poe bench` runs all of it and writes this page; the data are described in each section. Goals that were missed, and "
        "what was tried: [experiments.md](experiments.md).\n\n"
    )


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
