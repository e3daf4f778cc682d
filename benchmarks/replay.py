"""A real change stream of one author's notes, replayed into a folder, crawled and synced at every checkpoint.

At each one the live documents of the warehouse must be exactly the files of that moment (checked against the stream's
own state hash), and the chunks of the index exactly the chunks of those documents. Two deletes and a rename are added
per checkpoint, because the stream itself has hardly any.
"""

import gzip
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.changes import _sync
from benchmarks.data import real_data
from llm_engineering import bootstrap
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.crawl.run import crawl
from llm_engineering.domain.config import CrawlConfig, FeatureConfig, SourceConfig
from llm_engineering.settings import Settings
from tests.doubles.encoders import WordEmbedder


def main() -> int:
    """Print the table; exit status 1 if any checkpoint differs."""
    stream = real_data("til_cdc")
    checkpoints = json.loads((stream / "checkpoints.json").read_text())
    with gzip.open(stream / "events.jsonl.gz", "rt", encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines]
    wrong = 0
    print("## Replay: 683 events of one author's notes\n")
    print("| up to event | documents | revisions | tombstones | chunks | embedded | warehouse | index |")
    print("|---:|---:|---:|---:|---:|---:|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        world = _World(Path(folder))
        done = 0
        for checkpoint in checkpoints:
            upto = checkpoint["last_seq"]
            for event in events[done : upto + 1]:
                world.apply(event)
            done = upto + 1
            equal = world.follow(checkpoint["state_sha256"])
            wrong += equal.count("NO")
            print(f"| {upto} | {' | '.join(equal)} |", flush=True)
            world.disturb()
            equal = world.follow(None)
            wrong += equal.count("NO")
            print(f"| {upto}, two files deleted and one renamed | {' | '.join(equal)} |", flush=True)
            world.settle()
    return int(wrong > 0)


class _World:
    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.state: dict[str, dict[str, Any]] = {}
        self.warehouse = SQLiteWarehouse(folder / "warehouse.sqlite")
        self.index = EdgeIndex(folder / "index")
        self.embedder = WordEmbedder(dimensions=384)
        self._hidden: list[Path] = []

    def apply(self, event: dict[str, Any]) -> None:
        if event["op"] in ("delete", "rename"):
            self.state.pop(event.get("old_path") or event["path"], None)
            (self.notes / (event.get("old_path") or event["path"])).unlink(missing_ok=True)
        if event["op"] != "delete":
            self.state[event["path"]] = event
            file = self.notes / event["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(event["text"], encoding="utf-8", newline="")

    def disturb(self) -> None:
        files = sorted(self.notes.rglob("*.md"))
        if len(files) < 4:
            return
        for file in files[:2]:
            self._hidden.append(file)
            file.rename(file.with_suffix(".hidden"))
        self._hidden.append(files[2])
        files[2].rename(files[2].with_name(f"renamed-{files[2].name}"))

    def settle(self) -> None:
        for file in self._hidden:
            for stand_in in (file.with_suffix(".hidden"), file.with_name(f"renamed-{file.name}")):
                if stand_in.exists():
                    stand_in.rename(file)
        self._hidden = []

    def follow(self, state_hash: str | None) -> list[str]:
        """Crawl, sync, and compare both stores with the folder."""
        before = len(self.embedder.embedded)
        config = CrawlConfig(min_words=0)
        with bootstrap.open_fetcher(Settings(), config) as fetcher:
            crawl(
                [SourceConfig(at=str(self.notes))],
                author="Simon Willison",
                config=config,
                warehouse=self.warehouse,
                fetcher=fetcher,
                repositories=bootstrap.open_repositories(Settings(), fetcher),
            )
        _sync(self.warehouse, self.index, self.embedder)
        root = self.notes.resolve().as_uri() + "/"
        live = {
            state.document.url.removeprefix(root): state.revision.text
            for state in self.warehouse.states()
            if state.revision and state.live
        }
        files = {
            file.relative_to(self.notes).as_posix(): file.read_bytes().decode() for file in self.notes.rglob("*.md")
        }
        same = {path.replace("%20", " "): text for path, text in live.items()} == files
        if state_hash is not None:
            lines = (f"{path}\t{hashlib.sha256(text.encode()).hexdigest()}" for path, text in sorted(live.items()))
            same = same and hashlib.sha256("\n".join(lines).encode()).hexdigest() == state_hash
        chunker = bootstrap.chunker_for(FeatureConfig(), self.embedder)
        expected = {(chunk.id, chunk.revision) for state in self.warehouse.states() for chunk in chunker(state)}
        indexed = {(item.chunk.id, item.chunk.revision) for item in self.index.chunks()}
        status = self.warehouse.status()
        counts = [
            len(live),
            status.revisions,
            sum(status.tombstones.values()),
            len(indexed),
            len(self.embedder.embedded) - before,
        ]
        return [str(count) for count in counts] + ["equal" if good else "NO" for good in (same, indexed == expected)]


if __name__ == "__main__":
    sys.exit(main())
