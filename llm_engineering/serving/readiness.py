"""Whether what answering needs is there, asked at most once a second however many ask us."""

import asyncio
import logging
import time
from collections.abc import Mapping

from llm_engineering.domain.errors import TwinError
from llm_engineering.serving.service import Check

_log = logging.getLogger(__name__)
_FRESH = 1.0


class Readiness:
    """Runs the checks side by side; one that takes longer than ``seconds`` counts as failed."""

    def __init__(self, checks: Mapping[str, Check], *, seconds: float) -> None:
        self._checks, self._seconds = checks, seconds
        self._one_at_a_time = asyncio.Lock()
        self._found: dict[str, bool] = {}
        self._until = 0.0

    async def checks(self) -> dict[str, bool]:
        """What is there, by name."""
        async with self._one_at_a_time:
            if time.monotonic() >= self._until:
                results = await asyncio.gather(*(self._passes(name, check) for name, check in self._checks.items()))
                self._found = dict(zip(self._checks, results, strict=True))
                self._until = time.monotonic() + _FRESH
            return dict(self._found)

    async def _passes(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(self._seconds):
                await check()
        except (TwinError, TimeoutError) as error:
            _log.warning("not ready: %s: %s", name, error or "no answer in time")
            return False
        return True
