"""One question on its way through the service: its turn, its deadline, its client who may leave, its traces."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from llm_engineering.domain.answers import Answer, Question
from llm_engineering.domain.config import Sampling, ServiceConfig
from llm_engineering.serving.capacity import Capacity
from llm_engineering.serving.metrics import Metrics
from llm_engineering.serving.relay import Relay, unless_left
from llm_engineering.serving.service import Event, Service


@dataclass(frozen=True)
class Answered:
    """What feedback may judge."""

    query: str
    answer: Answer


class Remembered:
    """The latest answers, each for the caller who got it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[tuple[str | None, str], Answered] = OrderedDict()

    def add(self, caller: str | None, query: str, answer: Answer) -> None:
        """Remember one, and forget the oldest where there are too many."""
        key = (caller, answer.request_id)
        self._answers[key] = Answered(query, answer)
        self._answers.move_to_end(key)
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)

    def get(self, caller: str | None, request_id: str) -> Answered | None:
        """The answer to that request, if this caller got it lately."""
        return self._answers.get((caller, request_id))


@dataclass(frozen=True)
class Asking:
    """Puts questions to the twin within the limits of the service."""

    service: Service
    config: ServiceConfig
    capacity: Capacity
    metrics: Metrics
    remembered: Remembered

    async def whole(self, request: Request, question: Question, sampling: Sampling | None = None) -> Answer:
        """The whole answer; the work ends if the client leaves."""

        async def work() -> Answer:
            async with self.capacity.slot():
                return await self.service.answer(question, request_id=id_of(request), sampling=sampling)

        answer = await unless_left(request, work)
        self._note(request, question, answer)
        return answer

    async def pieces(self, request: Request, question: Question, sampling: Sampling | None = None) -> "Pieces":
        """The answer as it comes. Whatever fails before the first event is raised here."""
        source = self.service.stream(question, request_id=id_of(request), sampling=sampling)
        relay = Relay(source, within=self.capacity.slot())
        try:
            first = await unless_left(request, relay.next)
        except BaseException:
            await relay.close()
            raise

        def note(answer: Answer) -> None:
            self._note(request, question, answer)

        return Pieces(relay, first, heartbeat=self.config.heartbeat, note=note)

    def _note(self, request: Request, question: Question, answer: Answer) -> None:
        self.metrics.answer(answer)
        self.remembered.add(caller_of(request), question.query, answer)


class Pieces:
    """The events of one streamed answer, with ``None`` for each silence; :meth:`close` ends the work behind them."""

    def __init__(
        self, relay: Relay[Event], first: Event | None, *, heartbeat: float, note: Callable[[Answer], None]
    ) -> None:
        self._relay, self._heartbeat, self._note = relay, heartbeat, note
        self._ready = [first]

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> Event | None:
        event = self._ready.pop() if self._ready else await self._relay.next(heartbeat=self._heartbeat)
        if isinstance(event, Answer):
            self._note(event)
        return event

    async def close(self) -> None:
        """End the work and wait until it has ended."""
        await self._relay.close()


def id_of(request: Request) -> str:
    """The request's id."""
    return str(request.scope["state"]["request_id"])


def caller_of(request: Request) -> str | None:
    """Who is calling: the hash of the key, or this machine."""
    caller = request.scope["state"].get("caller")
    return str(caller) if caller is not None else None
