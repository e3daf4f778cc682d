"""The service under load: 1, 10 and 50 users, a spike of 500, and 10,000 requests, against a slow model and ``offline``.

The service is ``poe serve`` in its own process over loopback, with the Handbook's 76 articles. The model is a server that
takes one second for every reply; time beyond that second is the service's own. Users are processes of their own; they read
for five seconds on average before they ask again. ``/health`` is asked all the while.
"""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from benchmarks.data import handbook
from benchmarks.embeddings import RememberingEmbedder
from llm_engineering import bootstrap
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.domain.config import FeatureConfig
from llm_engineering.features.sync import sync
from llm_engineering.settings import Settings, load_settings

DELAY = 1.0
USERS = (1, 10, 50)
SPIKE = 500
SECONDS = 12.0
READING = 5.0
REQUESTS, ANSWERS = 10_000, 500
"""Of the long run: all requests, and how many of them are answers."""
LIMITS = {"per_minute": 1e9, "burst": 1_000_000_000, "remembered": 50}
OWN_P95, FIVE, HEALTH, GROWTH = 0.100, 1.3, 0.050, 0.05


@dataclass
class Load:
    """What came of one group of users."""

    seconds: float
    told_when: bool
    latencies: dict[str, list[float]]

    @property
    def answered(self) -> list[float]:
        """Seconds of each request that was answered."""
        return self.latencies.get("200", [])

    @property
    def refused(self) -> int:
        """Requests that were told to come back later."""
        return len(self.latencies.get("503", []))

    @property
    def failed(self) -> int:
        """Requests with any other status."""
        return sum(len(times) for status, times in self.latencies.items() if status not in ("200", "503"))


def main() -> int:
    """Print the tables; exit status 1 if a floor is missed."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        questions = _build(home)
        print("## The service under load\n")
        misses = [*_slow_model(home, questions), *_offline(home, questions)]
    print("\n" + ("All floors are kept." if not misses else f"Missed: {'; '.join(misses)}."))
    return int(bool(misses))


def _slow_model(home: Path, questions: list[str]) -> list[str]:
    with _model() as url, _service(home, LLM_BASE_URL=url, LLM_MODEL="double") as (address, _):
        print(f"A model that takes {DELAY:g} s. Own time is what an answer takes beyond that.\n")
        print(_HEAD)
        five = min(_ask(address, questions, users=5, most=5, pause=0).seconds for _ in range(3))
        healths, own, failed = _levels("slow model", address, questions, taken=DELAY)
    print(f"\nFive questions at once: {five:.2f} s (floor ≤ {FIVE} s).\n")
    return [
        *([f"five at once took {five:.2f} s"] if five > FIVE else []),
        *([f"own time p95 {own * 1000:.0f} ms at 50 users"] if own > OWN_P95 else []),
        *_health_missed(healths),
        *failed,
    ]


def _offline(home: Path, questions: list[str]) -> list[str]:
    with _service(home, LLM_MODEL="offline") as (address, process):
        print("`offline`, whose answers are computed in the service.\n")
        print(_HEAD)
        healths, _, failed = _levels("offline", address, questions, taken=0)
        _many(address, questions, 1)  # fills what remembers
        before = _memory(process.pid)
        done, rate = _many(address, questions, 1)
        after = _memory(process.pid)
    print(
        f"\nMemory over {done:,} requests after as many others, {ANSWERS} of them answers ({rate:.0f} searches/s): "
        f"{before:.0f} MB before, {after:.0f} MB after (floor: {GROWTH:.0%} more at most)."
    )
    grown = after / before - 1 > GROWTH
    return [*failed, *_health_missed(healths), *([f"memory grew from {before:.0f} to {after:.0f} MB"] if grown else [])]


def _many(address: str, questions: list[str], share: float) -> tuple[int, float]:
    """So many requests that were answered, and searches per second."""
    answers = _ask(address, questions, users=4, most=int(ANSWERS * share), pause=0, seconds=60)
    searches = _ask(
        address, questions, path="/search", users=8, most=int((REQUESTS - ANSWERS) * share), pause=0, seconds=120
    )
    return len(answers.answered) + len(searches.answered), len(searches.answered) / searches.seconds


_HEAD = (
    "| users | answers | per second | p50 ms | p95 ms | refused | other errors | /health p99 ms | max ms |\n"
    "|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def _levels(name: str, address: str, questions: list[str], *, taken: float) -> tuple[list[float], float, list[str]]:
    """One row per number of users; every latency of /health, the own time's p95 at 50 users, and what failed."""
    healths: list[float] = []
    failed: list[str] = []
    own = 0.0
    for users in (*USERS, SPIKE):
        with _health(address) as healthy:
            spike = users == SPIKE
            load = (
                _ask(address, questions, users=users, pause=0, spread=1, most=SPIKE)
                if spike
                else _ask(address, questions, users=users, pause=READING, most=10**6)
            )
        times = sorted(seconds - taken for seconds in load.answered)
        median, tail = statistics.median(times), _quantile(times, 0.95)
        own = tail if users == USERS[-1] else own
        probes = healthy()
        healths += probes
        rate = len(times) / load.seconds
        print(
            f"| {users} | {len(times)} | {rate:.1f} | {median * 1000:.0f} | {tail * 1000:.0f} | {load.refused} | "
            f"{load.failed} | {_quantile(probes, 0.99) * 1000:.1f} | {max(probes) * 1000:.1f} |",
            flush=True,
        )
        if load.failed or not load.told_when or (load.refused and not spike):
            failed.append(f"{name}, {users} users: {load.failed} errors, {load.refused} refused")
    return healths, own, failed


def _health_missed(probes: list[float]) -> list[str]:
    worst = max(probes)
    return [f"/health took {worst * 1000:.0f} ms"] if worst > HEALTH else []


def _quantile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _ask(
    address: str,
    questions: list[str],
    *,
    path: str = "/rag",
    users: int,
    pause: float,
    most: int,
    spread: float = 0,
    seconds: float = SECONDS,
) -> Load:
    command = [sys.executable, "-m", "benchmarks.clients", address, path, f"--users={users}", f"--pause={pause}"]
    command += [f"--most={most}", f"--seconds={seconds}", f"--spread={spread}"]
    done = subprocess.run(command, input="\n".join(questions), capture_output=True, text=True, check=True)
    return Load(**json.loads(done.stdout))


@contextmanager
def _health(address: str) -> Iterator[Callable[[], list[float]]]:
    """Ask for /health until the block ends; afterwards its latencies."""
    command = [sys.executable, "-m", "benchmarks.clients", address, "/health", "--pause=0.02", f"--seconds={SECONDS}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
        assert prober.stdin
        prober.stdin.close()
        prober.stdin = None
        found: list[str] = []
        yield lambda: Load(**json.loads(found[0])).answered
        found.append(prober.communicate()[0])


@contextmanager
def _service(home: Path, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``poe serve`` over these stores, ready to answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tools.serve", f"--port={port}"]
    command += [f"--config={home / 'inference.yaml'}", f"--limits={home / 'serving.yaml'}"]
    known = {name: value for name, value in os.environ.items() if not name.startswith(("LLM_", "OPENAI_", "API_"))}
    known |= {"TWIN_HOME": str(home), "WAREHOUSE_URL": "", "INDEX_URL": ""} | environment
    process = subprocess.Popen(command, env=known, stderr=subprocess.DEVNULL, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _until_ready(address, process)
        yield address, process
    finally:
        process.terminate()
        process.wait(60)


def _until_ready(address: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(f"{address}/ready", timeout=60):
                return
        except URLError:
            time.sleep(0.1)
    sys.exit("The service did not become ready.")


@contextmanager
def _model() -> Iterator[str]:
    """A model server that takes its time."""
    command = [sys.executable, "-m", "tests.doubles.chat_server", f"--delay={DELAY}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stdin
        yield server.stdout.readline().strip()
        server.stdin.close()


def _build(home: Path) -> list[str]:
    """Stores and configuration under ``home``; titles of the articles as questions."""
    config, settings = FeatureConfig(), Settings(twin_home=home)
    embedder = RememberingEmbedder(
        bootstrap.open_embedder(settings, config.embedding), load_settings().twin_home / "benchmarks" / "vectors.sqlite"
    )
    sparse = bootstrap.open_sparse_encoder(config.sparse)
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        assert isinstance(index, EdgeIndex)
        titles, *_ = handbook(warehouse)
        recipe = bootstrap.recipe_for(settings, config, embedder, sparse)
        chunker = bootstrap.chunker_for(config, embedder)
        sync(warehouse, index, recipe=recipe, chunker=chunker, embedder=embedder, sparse=sparse, config=config.sync)
    answering = {**yaml.safe_load(Path("configs/inference.yaml").read_text(encoding="utf-8")), "understand": "rules"}
    limits = {**yaml.safe_load(Path("configs/serving.yaml").read_text(encoding="utf-8")), **LIMITS}
    (home / "inference.yaml").write_text(yaml.safe_dump(answering), encoding="utf-8")
    (home / "serving.yaml").write_text(yaml.safe_dump(limits), encoding="utf-8")
    return [f"What did you write about {title}?" for title in titles.queries.values()]


def _memory(process: int) -> float:
    """Resident memory in MB."""
    kept = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="ascii"))
    return int(kept.group(1)) / 1024 if kept else 0.0


if __name__ == "__main__":
    sys.exit(main())
