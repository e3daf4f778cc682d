"""What calls of a model cost, and the line that they never cross."""

import asyncio

from pydantic import Field

from llm_engineering.domain.dataset_config import TeacherConfig
from llm_engineering.domain.entities import Frozen

_MILLION = 1_000_000
_ROUNDING = 1e-9


class Cost(Frozen):
    """What a run asked and paid. Money in the currency of the configured prices."""

    calls: int = 0
    """Requests that were sent; one that took a repair round counts once."""
    replayed: int = 0
    """Requests that the journal answered: no call, no cost."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0
    stopped: str = Field(default="")
    """Why the run stopped asking before its end; empty if it did not."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            calls=self.calls + other.calls,
            replayed=self.replayed + other.replayed,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            money=self.money + other.money,
            stopped=self.stopped or other.stopped,
        )


def price(tokens: tuple[int, int], config: TeacherConfig) -> float:
    """Of tokens read and written."""
    return (tokens[0] * config.prompt_price + tokens[1] * config.completion_price) / _MILLION


class Budget:
    """Lets a call begin only if the most that it can cost still fits, together with the most of all that are under way.

    ``config.budget`` and ``config.max_calls`` hold for one run.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self._limit, self._most_calls = config.budget, config.max_calls
        self._spent = self._reserved = 0.0
        self._calls = self._under_way = 0
        self._settled = asyncio.Condition()

    async def reserve(self, most: float) -> bool:
        """Whether the call may begin. Waits while calls under way may yet turn out cheaper than they could have been."""
        async with self._settled:
            if self._most_calls is not None and self._calls >= self._most_calls:
                return False
            while not self._fits(most):
                if not self._under_way:
                    return False
                await self._settled.wait()
            self._calls += 1
            self._under_way += 1
            self._reserved += most
            return True

    async def settle(self, most: float, real: float) -> None:
        """What a call that :meth:`reserve` let begin really cost."""
        async with self._settled:
            self._under_way -= 1
            self._reserved -= most
            self._spent += real
            self._settled.notify_all()

    def _fits(self, most: float) -> bool:
        return self._limit is None or self._spent + self._reserved + most <= self._limit + _ROUNDING
