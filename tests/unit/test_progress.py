"""Long work: a bar on a terminal, in a log a line now and then that says the same; never on standard output."""

import re
from itertools import count

import pytest

from steps.progress import Bar, bar

ESCAPES = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is no terminal, whatever the person who runs the tests wants of colours."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


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


def test_short_work_in_a_log_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("steps.progress.time.monotonic", lambda: 0.0)
    with bar("sync") as progress:
        progress(1, 2)
        progress(2, 2)
    assert capsys.readouterr() == ("", "")


def test_long_work_in_a_log_is_told_in_plain_lines(clock: None, capsys: pytest.CaptureFixture[str]):
    with bar("sync") as progress:
        progress(1, 2, "a.md")
        progress(2, 2)
    assert capsys.readouterr() == ("", "sync: 1 of 2 (a.md)\nsync: 2 of 2\n")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error as a terminal of 70 columns."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "70", "LINES": "20"}.items():
        monkeypatch.setenv(name, value)


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The last line that was on the terminal, and all that was sent to it."""
    out, sent = capsys.readouterr()
    assert out == ""
    return [line for line in re.split(r"[\r\n]+", ESCAPES.sub("", sent)) if line.strip()][-1].strip(), sent


def test_a_terminal_shows_a_bar_with_count_and_label_and_keeps_nothing_of_it(
    terminal: None, capsys: pytest.CaptureFixture[str]
):
    with bar("sync") as progress:
        progress(600, 1200, "[bold] notes/a.md")
    line, sent = shown(capsys)
    assert "sync" in line and "━" in line and "600 of 1,200" in line and line.endswith("[bold] notes/a.md")
    assert sent.rstrip("\r\n").endswith("\x1b[2K"), "the line is erased at the end"


def test_a_long_label_is_cut_and_never_breaks_the_line(terminal: None, capsys: pytest.CaptureFixture[str]):
    with bar("crawl") as progress:
        progress.advance("https://ada.example/" + "long/" * 40)
    line, _ = shown(capsys)
    assert "crawl" in line and " 1 " in line and line.endswith("…") and len(line) <= 70
