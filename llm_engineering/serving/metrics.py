"""Counters and histograms in Prometheus' format; one registry for each application."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llm_engineering.domain.answers import Answer
from llm_engineering.serving.capacity import Capacity

_QUICK = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """What operators look at. Labels are routes, stages and stable words: never a text, a name or a key."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, capacity: Capacity) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("twin_requests", "Requests.", ["route", "method", "status"], registry=registry)
        self._seconds = Histogram(
            "twin_request_seconds", "Time until the last byte.", ["route"], buckets=_QUICK, registry=registry
        )
        self._stages = Histogram(
            "twin_stage_seconds", "Time by stage of answering.", ["stage"], buckets=_QUICK, registry=registry
        )
        self._answers = Counter("twin_answers", "Answers.", ["route", "grounded"], registry=registry)
        self._tokens = Counter("twin_tokens", "Tokens of chat models.", ["direction"], registry=registry)
        self._removed = Counter("twin_removed_markers", "Citations that could not be verified.", registry=registry)
        self._votes = Counter("twin_feedback", "Judgements of answers.", ["vote"], registry=registry)
        working = Gauge("twin_answers_in_progress", "Questions being answered.", registry=registry)
        working.set_function(lambda: capacity.working)
        waiting = Gauge("twin_answers_waiting", "Questions waiting for their turn.", registry=registry)
        waiting.set_function(lambda: capacity.waiting)

    def request(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """One request is done."""
        known = method if method in {"GET", "POST", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"} else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answer(self, answer: Answer) -> None:
        """One question was answered."""
        self._answers.labels(answer.route.value, str(answer.grounded).lower()).inc()
        self._tokens.labels("prompt").inc(answer.usage.prompt_tokens)
        self._tokens.labels("completion").inc(answer.usage.completion_tokens)
        self._removed.inc(answer.removed_markers)
        for stage, milliseconds in answer.usage.stages.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def feedback(self, vote: str) -> None:
        """One answer was judged."""
        self._votes.labels(vote).inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
