"""``python -m spancheck TEXT CHUNKS``: exit status 0 for exact and complete, 1 for problems, 2 for bad input."""

import json
import sys
from pathlib import Path

from spancheck import Chunk, problems


def main(arguments: list[str]) -> int:
    """Check one text against one file of chunks and say what is wrong."""
    if len(arguments) != 2:
        print("usage: python -m spancheck TEXT CHUNKS", file=sys.stderr)
        return 2
    text_file, chunk_file = map(Path, arguments)
    try:
        text = text_file.read_text(encoding="utf-8")
        chunks = [read(line) for line in chunk_file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"cannot read the input: {error!r}", file=sys.stderr)
        return 2
    found = problems(text, chunks)
    for problem in found:
        print(problem)
    print(f"{len(found)} problem{'' if len(found) == 1 else 's'}")
    return 1 if found else 0


def read(line: str) -> Chunk:
    """A chunk from one line of JSON; further keys are ignored."""
    entry = json.loads(line)
    return Chunk(start=int(entry["start"]), end=int(entry["end"]), text=str(entry["text"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
