"""Building training data: removing duplicates from 100,000 samples, the Handbook's articles by rules, a teacher kept busy.

Duplicates are planted: one text in ten is another one with one to three of its 120 words changed, one vector in ten another one
with noise. The words are drawn from the Handbook's articles with their real frequencies. The endpoint answers every request
after two seconds, on this machine.
"""

import asyncio
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.data import handbook
from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.bootstrap import pieces_for
from llm_engineering.dataset.build import build, draw, write_instructions
from llm_engineering.dataset.near_duplicates import near_duplicate_groups, near_duplicates
from llm_engineering.dataset.quality import gate_samples
from llm_engineering.dataset.semantic_duplicates import semantic_duplicates
from llm_engineering.dataset.teach import teach
from llm_engineering.domain.config import ChatConfig
from llm_engineering.domain.dataset_config import DatasetConfig, TeacherConfig
from llm_engineering.domain.samples import Origin, Split
from tests.doubles.chat_server import MODEL, ChatServer, says
from tests.doubles.teaching import from_request, lessons, passages

SAMPLES = 100_000
_WORDS, _DIMENSIONS = 120, 384
_CALLS, _CONCURRENCY, _DELAY = 400, 8, 2.0


def main() -> int:
    """Print three tables; exit status 1 if a goal is missed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SQLiteWarehouse(Path(folder) / "warehouse.sqlite")) as warehouse,
    ):
        handbook(warehouse)
        missed = duplicates(warehouse)
        missed += articles(warehouse)
    missed += teacher()
    return int(missed > 0)


def duplicates(warehouse: SQLiteWarehouse) -> int:
    """Time, peak memory and what was found of what was planted."""
    chance = random.Random(11)
    corpus = [word for state in warehouse.states() if state.revision for word in state.revision.text.split()]
    planted = SAMPLES // 10
    texts = [" ".join(chance.choices(corpus, k=_WORDS)) for _ in range(SAMPLES - planted)]
    texts += [_changed(texts[number], chance) for number in range(planted)]
    truth = {(SAMPLES - planted + number, number) for number in range(planted)}
    missed = 0
    print(f"## Duplicates among {SAMPLES:,} samples\n")
    print("| | time | peak memory of the process | planted | found | false |\n|---|---:|---:|---:|---:|---:|")
    for name, compare in (
        ("near-duplicates, the first one kept", lambda: {(one.position, one.like) for one in near_duplicates(texts)}),
        ("groups of near-duplicates", lambda: {(group[-1], group[0]) for group in near_duplicate_groups(texts)}),
    ):
        started = time.perf_counter()
        found = compare()
        missed += _row(name, time.perf_counter() - started, truth, found)
    vectors = np.random.default_rng(3).standard_normal((SAMPLES, _DIMENSIONS), dtype=np.float32)
    vectors[-planted:] = vectors[:planted] + 0.2 * vectors[-planted:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    started = time.perf_counter()
    found = {(one.position, one.like) for one in semantic_duplicates(vectors, threshold=0.95)}
    return missed + _row("instructions that mean the same", time.perf_counter() - started, truth, found)


def _changed(text: str, chance: random.Random) -> str:
    words = text.split()
    for place in chance.sample(range(len(words)), chance.randint(1, 3)):
        words[place] = "another"
    return " ".join(words)


def _row(name: str, seconds: float, truth: set[tuple[int, int]], found: set[tuple[int, int]]) -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {name} | {seconds:.0f} s | {peak:,.0f} MB | {len(truth):,} | {len(truth & found):,} | {len(found - truth):,} |",
        flush=True,
    )
    return int(peak >= 2000 or found - truth != set() or len(truth & found) < 0.999 * len(truth))


def articles(warehouse: SQLiteWarehouse) -> int:
    """The Handbook's articles by rules, and the audit beside the set that the Handbook's own repository ships."""
    config = DatasetConfig()
    read = pieces_for(config.clean)
    started = time.perf_counter()
    drawn = draw(warehouse, config, read=read)
    samples, _ = write_instructions(drawn, config)
    written = time.perf_counter() - started
    started = time.perf_counter()
    gate_samples(samples, config=config.quality, revision_text=drawn.text)
    gated = time.perf_counter() - started
    started = time.perf_counter()
    dataset = build(warehouse, config, read=read).dataset
    whole = time.perf_counter() - started
    audit, sides = dataset.card.audit, dataset.samples
    kept = [sample for side in sides.values() for sample in side]
    verbatim = sum(
        sample.answer == (drawn.text(sample.provenance.document_id, sample.provenance.revision) or "")[
            sample.provenance.start : sample.provenance.end
        ]
        for sample in kept
        if sample.origin is Origin.AUTHOR
    )  # fmt: skip
    print("\n## The Handbook's 76 articles by rules\n")
    print(
        f"{drawn.candidates} passages read and {len(samples)} instructions written in {written:.1f} s"
        f" ({drawn.candidates / written:.0f} passages/s), {len(samples)} samples gated in {gated:.1f} s"
        f" ({len(samples) / gated:.0f} samples/s), the whole build with audit {whole:.1f} s"
        f" ({drawn.candidates / whole:.0f} passages/s).\n"
    )
    tested = len(sides[Split.TEST])
    print("| | its own repository's set | here |\n|---|---:|---:|")
    print(f"| answers that are the author's words to the letter | 0 of 402 | {verbatim} of {len(kept)} |")
    print(f"| repeated instructions | 521 of 2,250 | {audit.repeated_instructions} of {len(kept)} |")
    print(
        f"| instructions of the test split that training has too | 69 of 250 | {audit.instructions_across} of {tested} |"
    )
    for length in (8, 13):
        shared = sum(overlap.shared.get(length, 0) for overlap in audit.overlap.values())
        print(f"| held-out answers that share {length} words in a row with training | not stated | {shared} |")
    print(f"| documents on two sides | not by document | {audit.shared_documents} |")
    return int(verbatim != len(kept) or audit.leaks > 0)


def teacher() -> int:
    """Share of a fixed-delay endpoint's time that was used, the canary included. The endpoint has a process of its own."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    endpoint = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    endpoint.start()
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SQLiteWarehouse(Path(folder) / "warehouse.sqlite")) as warehouse,
    ):
        samples, seconds = asyncio.run(_teach(here.recv(), warehouse))
    here.send("stop")
    asked = here.recv() - 1
    endpoint.join()
    busy = asked * _DELAY / (_CONCURRENCY * seconds)
    print("\n## A teacher kept busy\n")
    print(
        f"{asked} requests of {_DELAY} s, at most {_CONCURRENCY} at a time: {seconds:.1f} s, {samples} samples,"
        f" **{busy:.1%}** of the endpoint's time used (goal: 95 %)."
    )
    return int(busy < 0.95 or samples != _CALLS)


def _serve(pipe: Connection) -> None:
    with ChatServer(says(from_request), delay=_DELAY) as server:
        pipe.send(server.url)
        pipe.recv()
        pipe.send(len(server.requests))


async def _teach(url: str, warehouse: SQLiteWarehouse) -> tuple[int, float]:
    first, *taught = lessons(passages(_CALLS + 1, warehouse))
    model = OpenAIChatModel(url, MODEL, None, ChatConfig())
    config = TeacherConfig(enabled=True, concurrency=_CONCURRENCY)
    await teach([first], model=model, warehouse=warehouse, config=config)  # opens the client
    started = time.perf_counter()
    result = await teach(taught, model=model, warehouse=warehouse, config=config)
    seconds = time.perf_counter() - started
    await model.close()
    return len(result.samples), seconds


if __name__ == "__main__":
    sys.exit(main())
