"""The error of a failed step, kept for the entry point that can say it: the orchestrator reports only that a step failed."""

_failures: list[BaseException] = []


def remember(error: BaseException) -> None:
    """Failure hook of the pipelines; a run in this process leaves its error here."""
    _failures.append(error)


def last_failure() -> BaseException | None:
    """The newest error of a run in this process, once."""
    return _failures.pop() if _failures else None
