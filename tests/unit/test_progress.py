"""Long work in a log: a line now and then, with everything that a terminal would show."""

from itertools import count

import pytest

from steps.progress import Bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a minute later."""
    minutes = count(step=60)
    monkeypatch.setattr("steps.progress.time.monotonic", lambda: float(next(minutes)))


def test_a_line_says_how_far_the_work_is_and_what_the_label_says(clock: None, capsys: pytest.CaptureFixture[str]):
    Bar("teacher", None)(3, 1200, "1.5/s, 1 refused, 3 calls, 0.0120 spent")
    assert capsys.readouterr().err == "teacher: 3 of 1,200 (1.5/s, 1 refused, 3 calls, 0.0120 spent)\n"


def test_work_of_unknown_length_and_without_a_label_is_counted(clock: None, capsys: pytest.CaptureFixture[str]):
    Bar("links", None).advance()
    assert capsys.readouterr().err == "links: 1\n"
