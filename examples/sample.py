"""The sample corpus as a crawler meets it: a blog, a folder of notes and a git repository, in two states.

``v2`` is ``v1`` after one post was edited, one added and one removed. On the command line::

    python -m examples.sample v1 FOLDER --base-url http://127.0.0.1:8000
    python -m examples.sample v1 FOLDER --serve 8000
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Literal, get_args

from examples.rendering import AUTHOR, Post, read_post, site
from examples.serving import serve

__all__ = ["AUTHOR", "State", "materialise", "posts", "serve"]

State = Literal["v1", "v2"]
HERE = Path(__file__).parent
MARKER = ".sample-corpus"
"""Stands in every folder that :func:`materialise` made; no other folder is ever emptied."""


def posts(state: State) -> dict[str, Post]:
    """The posts of a state by slug; of two files with one name the later folder's counts."""
    manifest = json.loads((HERE / "states.json").read_text(encoding="utf-8"))[state]
    found = {
        file.stem: read_post(file) for folder in manifest["posts"] for file in sorted((HERE / folder).glob("*.md"))
    }
    for slug in manifest["removed"]:
        del found[slug]
    return found


def materialise(state: State, target: Path, *, base_url: str = "http://127.0.0.1:8000") -> None:
    """Make ``target`` equal that state: ``site/`` (to be served at ``base_url``), ``notes/`` and the git repository ``repo/``.

    The same state and address give the same bytes, times and commit. A folder of an earlier state is replaced; any other
    folder that is not empty raises :class:`FileExistsError` and is left alone.
    """
    written = posts(state)
    _claim(target)
    for path, content in site(list(written.values()), base_url=base_url.rstrip("/")).items():
        file = target / "site" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8", newline="\n")
    unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(HERE / "notes", target / "notes", ignore=unwanted)
    shutil.copytree(HERE / "repo", target / "repo", ignore=unwanted)
    built = datetime.combine(max(post.updated for post in written.values()), time(8), tzinfo=UTC).timestamp()
    for file in sorted(target.rglob("*")):
        if file.is_file():
            os.utime(file, (built, built))
    _commit(target / "repo")


def _claim(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if not (target / MARKER).exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty and was not made from the sample corpus: name a new folder")
    (target / MARKER).touch()
    for name in ("site", "notes", "repo"):
        shutil.rmtree(target / name, ignore_errors=True)


def _commit(folder: Path) -> None:
    """One commit with a fixed author and time, untouched by the user's own git configuration."""
    moment = "2026-05-25T08:00:00+0000"
    identity = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", AUTHOR), ("EMAIL", "ada@example.org"), ("DATE", moment))
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = kept | identity | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for command in (
        ["init", "--quiet", "--template=", "--initial-branch=main"],
        ["-c", "core.autocrlf=false", "add", "--all"],
        ["commit", "--quiet", "--message", "Check that chunks are exact spans of their text"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True, env=environment, capture_output=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a state to a folder; with ``--serve``, serve its blog until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m examples.sample", description=__doc__.splitlines()[0])
    parser.add_argument("state", choices=get_args(State))
    parser.add_argument("folder", type=Path)
    address = parser.add_mutually_exclusive_group()
    address.add_argument("--base-url", default="http://127.0.0.1:8000", help="address that the blog will have")
    address.add_argument("--serve", type=int, metavar="PORT", help="serve the blog on this port until interrupted")
    given = parser.parse_args(arguments)
    try:
        if given.serve is None:
            materialise(given.state, given.folder, base_url=given.base_url)
            return 0
        with serve(given.folder / "site", given.serve) as base_url:
            materialise(given.state, given.folder, base_url=base_url)
            sys.stderr.write(f"{given.state} at {base_url}, until Ctrl-C\n")
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
