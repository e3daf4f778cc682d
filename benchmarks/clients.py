"""Users of a running service, in a process of their own, so that they take nothing from the process that is measured.

``python -m benchmarks.clients URL PATH --users 10 --seconds 5`` prints one JSON object: for each status the latencies in
seconds, and how long it all took. Connections are plain sockets kept alive, one per user; questions come on standard input.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import defaultdict
from urllib.parse import urlsplit


class Users:
    """So many people, each asking one question after another."""

    def __init__(
        self, url: str, path: str, questions: list[str], *, pause: float, spread: float, deadline: float, most: int
    ) -> None:
        address = urlsplit(url)
        self._host, self._port, self._path = address.hostname, address.port, path
        self._questions, self._pause, self._spread = questions, pause, spread
        self._deadline, self._left = deadline, most
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self.told_when = True
        """Every refusal said when to come back."""

    async def one(self, number: int) -> None:
        """Ask until the time or the number of requests is up; the pauses between two questions are drawn at random."""
        rng = random.Random(number)
        await asyncio.sleep(rng.uniform(0, max(self._pause, self._spread)))
        reader, writer = await asyncio.open_connection(self._host, self._port)
        while self._left > 0 and time.perf_counter() < self._deadline:
            self._left -= 1
            if reader.at_eof():  # the service closes connections that are silent for some seconds
                writer.close()
                reader, writer = await asyncio.open_connection(self._host, self._port)
            started = time.perf_counter()
            writer.write(self._request(rng.choice(self._questions)))
            status, headers, _ = await _response(reader)
            self.latencies[status].append(time.perf_counter() - started)
            self.told_when &= status not in ("429", "503") or "retry-after" in headers
            pause = rng.uniform(0, 2 * self._pause)
            await asyncio.sleep(min(pause, max(0.0, self._deadline - time.perf_counter())))
        writer.close()

    def _request(self, question: str) -> bytes:
        method = "GET" if self._path in ("/health", "/metrics") else "POST"
        body = json.dumps({"query": question}).encode() if method == "POST" else b""
        head = f"{method} {self._path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _response(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return head[0].split(" ")[1], headers, await reader.readexactly(int(headers.get("content-length", 0)))


async def _all(users: Users, count: int) -> None:
    await asyncio.gather(*(users.one(number) for number in range(count)))


def main() -> None:
    """Ask, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("path")
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="no question is asked after these")
    parser.add_argument("--most", type=int, default=1_000_000, help="requests of all users together at most")
    parser.add_argument("--spread", type=float, default=0.0, help="seconds within which the users come")
    parser.add_argument("--pause", type=float, default=0.0, help="mean seconds between an answer and the next question")
    asked = parser.parse_args()
    questions = [line for line in sys.stdin.read().splitlines() if line.strip()] or ["-"]
    deadline = time.perf_counter() + asked.seconds
    users = Users(
        asked.url, asked.path, questions, pause=asked.pause, spread=asked.spread, deadline=deadline, most=asked.most
    )
    started = time.perf_counter()
    asyncio.run(_all(users, asked.users))
    told = {"seconds": time.perf_counter() - started, "told_when": users.told_when, "latencies": users.latencies}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
