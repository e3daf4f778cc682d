"""The foreground scheduler: makes up for what it missed, never runs twice at once, says what happened, ends when asked."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from llm_engineering.domain.config import FeatureConfig
from llm_engineering.domain.errors import StoreUnavailable, UsageError
from tests.doubles import scheduled_run
from tests.doubles.scheduled_run import Runs
from tests.doubles.web import Answer, LocalSite, Request
from tools.run import hand_over
from tools.schedule import cron_trigger, foreground, run_feature_pipeline

ROOT = Path(__file__).resolve().parents[2]
RUN = "tests.doubles.scheduled_run:run"
DAILY = cron_trigger("0 6 * * *", "UTC")
LONG_AGO = datetime(2020, 1, 1, 6, tzinfo=UTC)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    fresh = Runs()
    monkeypatch.setattr(scheduled_run, "runs", fresh)
    return fresh


@contextmanager
def scheduling(store: Path, *, config: str = "one.yaml", trigger: Any = DAILY) -> Iterator[BackgroundScheduler]:
    scheduler = foreground(store, trigger, config, run=RUN)
    try:
        yield scheduler
    finally:
        scheduler.shutdown(wait=True)


def make_late(store: Path, *, config: str, trigger: Any = DAILY, run: str = RUN) -> None:
    """A scheduler that was stopped, and whose time came many times since."""
    foreground(store, trigger, config, run=run).shutdown(wait=True)
    jobs = SQLAlchemyJobStore(url=f"sqlite:///{store}")
    jobs.start(BackgroundScheduler(), "default")
    [job] = jobs.get_all_jobs()
    job.next_run_time = LONG_AGO
    jobs.update_job(job)
    jobs.shutdown()


def test_times_missed_while_nothing_ran_are_made_up_for_once(tmp_path: Path, runs: Runs):
    make_late(tmp_path / "schedule.sqlite", config="one.yaml")
    assert not runs.started
    with scheduling(tmp_path / "schedule.sqlite"):
        assert runs.wait_for(1)
    with scheduling(tmp_path / "schedule.sqlite") as scheduler:
        assert scheduler.get_jobs()[0].next_run_time > datetime.now(UTC)
    assert runs.started == ["one.yaml"]


def test_nothing_missed_nothing_run(tmp_path: Path, runs: Runs):
    for _ in range(2):
        with scheduling(tmp_path / "schedule.sqlite"):
            pass
    assert not runs.started


def test_a_run_that_is_still_going_on_is_never_joined_by_another(
    tmp_path: Path, runs: Runs, caplog: pytest.LogCaptureFixture
):
    make_late(tmp_path / "schedule.sqlite", config="one.yaml")
    runs.may_end.clear()
    skipped = threading.Event()
    with scheduling(tmp_path / "schedule.sqlite") as scheduler:
        scheduler.add_listener(lambda _: skipped.set(), EVENT_JOB_MAX_INSTANCES)
        assert runs.wait_for(1)
        scheduler.get_jobs()[0].modify(next_run_time=datetime.now(UTC) - timedelta(seconds=1))
        assert skipped.wait(20)
        runs.may_end.set()
    assert runs.started == ["one.yaml"] and "still going on" in caplog.text


@pytest.mark.parametrize(
    ("trigger", "config"),
    [
        (cron_trigger("0 7 * * *", "UTC"), "one.yaml"),
        (cron_trigger("0 6 * * *", "Asia/Tokyo"), "one.yaml"),
        (DAILY, "two"),
    ],
)
def test_another_time_zone_or_configuration_replaces_the_schedule(
    tmp_path: Path, runs: Runs, trigger: Any, config: str
):
    make_late(tmp_path / "schedule.sqlite", config="one.yaml")
    with scheduling(tmp_path / "schedule.sqlite", config=config, trigger=trigger) as scheduler:
        [job] = scheduler.get_jobs()
        assert (job.args, str(job.trigger.timezone)) == ((config,), str(trigger.timezone))
    assert not runs.started


@pytest.mark.parametrize(
    ("cron", "weekday"), [("0 6 * * 0", 6), ("0 6 * * 7", 6), ("0 6 * * 1", 0), ("0 6 * * 5-6", 4), ("0 6 * * mon", 0)]
)
def test_weekdays_are_counted_as_cron_counts_them(cron: str, weekday: int):
    thursday = datetime(2026, 1, 1, tzinfo=UTC)
    assert cron_trigger(cron, "UTC").get_next_fire_time(None, thursday).weekday() == weekday


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("*", "mon tue wed thu fri sat sun"),
        ("*/2", "tue thu sat sun"),
        ("*/3", "wed sat sun"),
        ("1-5/2", "mon wed fri"),
        ("3/2", "wed fri"),
        ("*/4,1", "mon thu sun"),
    ],
)
def test_steps_of_weekdays_are_counted_from_sunday(field: str, days: str):
    trigger, fired = cron_trigger(f"0 6 * * {field}", "UTC"), set()
    for day in range(1, 8):
        fired.add(trigger.get_next_fire_time(None, datetime(2026, 1, day, tzinfo=UTC)).weekday())
    assert fired == {("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(day) for day in days.split()}


def first_days(cron: str, count: int) -> list[str]:
    trigger, moment, days = cron_trigger(cron, "UTC"), datetime(2026, 1, 1, tzinfo=UTC), []
    while len(days) < count:
        moment = trigger.get_next_fire_time(None, moment)
        days.append(f"{moment:%b %d}")
        moment += timedelta(minutes=1)
    return days


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 6 1 * 1", ["Jan 01", "Jan 05", "Jan 12", "Jan 19", "Jan 26", "Feb 01"]),
        ("0 6 13 * fri", ["Jan 02", "Jan 09", "Jan 13", "Jan 16"]),
        ("0 6 2,3 1 6", ["Jan 02", "Jan 03", "Jan 10"]),
        ("0 6 */2 * 1", ["Jan 05", "Jan 19", "Feb 09"]),
        ("0 6 1 * */2", ["Jan 01", "Feb 01", "Mar 01", "Aug 01"]),
        ("0 6 1 * *", ["Jan 01", "Feb 01"]),
    ],
)
def test_a_day_of_the_month_and_one_of_the_week_mean_either_as_in_cron(cron: str, days: list[str]):
    assert first_days(cron, len(days)) == days


@pytest.mark.parametrize(
    ("field", "days"),
    [("fri-sun", "fri sat sun"), ("SUN-tue", "mon tue sun"), ("mon-fri/2", "mon wed fri"), ("6-7", "sat sun")],
)
def test_names_and_numbers_of_weekdays_span_as_cron_reads_them(field: str, days: str):
    fired = {
        datetime.strptime(f"{day} 2026", "%b %d %Y").strftime("%a").lower() for day in first_days(f"0 6 * * {field}", 7)
    }
    assert fired == set(days.split())


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("0 6 * * 6-0", "'6-0' runs backwards: Sunday at the end of a span is 7"),
        ("0 6 * * 5-2", "'5-2' runs backwards"),
        ("0 6 * * sat-mon", "'sat-mon' runs backwards"),
        ("0 6 * * 1/x", "the step 'x'"),
        ("0 6 * * moonday", "'moonday' is no day of the week"),
        ("0 6 * * 8", "'8' is no day of the week"),
        ("0 6 * *", "it has 4 fields"),
    ],
)
def test_what_is_wrong_with_an_expression_is_said(cron: str, problem: str):
    with pytest.raises(UsageError, match=problem):
        cron_trigger(cron, "UTC")


def test_another_day_of_the_month_replaces_a_schedule_of_two_kinds_of_days(tmp_path: Path, runs: Runs):
    make_late(tmp_path / "schedule.sqlite", config="one.yaml", trigger=cron_trigger("0 6 1 * 1", "UTC"))
    with scheduling(tmp_path / "schedule.sqlite", trigger=cron_trigger("0 6 2 * 1", "UTC")) as scheduler:
        [job] = scheduler.get_jobs()
        assert "day='2'" in repr(job.trigger) and job.next_run_time > datetime.now(UTC)
    assert not runs.started


def test_a_schedule_of_two_kinds_of_days_is_kept_and_made_up_for(tmp_path: Path, runs: Runs):
    trigger = cron_trigger("0 6 1 * 1", "Asia/Tokyo")
    make_late(tmp_path / "schedule.sqlite", config="one.yaml", trigger=trigger)
    with scheduling(tmp_path / "schedule.sqlite", trigger=trigger) as scheduler:
        assert runs.wait_for(1)
        assert str(scheduler.timezone) == "Asia/Tokyo"
    assert runs.started == ["one.yaml"]


@pytest.mark.parametrize("cron", ["sometimes", "", "0 6 * *", "99 6 * * *", "0 6 * * 9", "0 6 * * 1/x", "0 6 * * */0"])
def test_what_is_no_cron_expression_is_bad_usage(cron: str):
    with pytest.raises(UsageError, match="no cron expression"):
        cron_trigger(cron, "UTC")


def test_a_damaged_schedule_says_what_to_do(tmp_path: Path):
    (tmp_path / "schedule.sqlite").write_text("no database, and long enough to be taken for one" * 50)
    with pytest.raises(StoreUnavailable, match="remove it"):
        foreground(tmp_path / "schedule.sqlite", DAILY, "one.yaml", run=RUN)


def test_what_a_run_says_and_how_it_ended_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "schedule")
    assert run_feature_pipeline(str(tmp_path / "none.yaml")) == 2
    assert "none.yaml cannot be read" in caplog.text and "run ended with status 2" in caplog.text


class Pipeline:
    """Stands for the orchestrator's view of a pipeline: remembers the schedule and the configuration it was given."""

    def __init__(self) -> None:
        self.schedule: Any = None
        self.config: FeatureConfig | None = None

    def with_options(self, *, schedule: Any) -> "Pipeline":
        self.schedule = schedule
        return self

    def __call__(self, *, config: FeatureConfig) -> None:
        self.config = config


@pytest.mark.parametrize("able", [True, False])
def test_an_orchestrator_that_can_schedule_gets_the_schedule_and_no_other(able: bool):
    pipeline, orchestrator = Pipeline(), SimpleNamespace(config=SimpleNamespace(is_schedulable=able))
    config = FeatureConfig(author="Ada Winter")
    assert hand_over(pipeline, orchestrator, config, "0 6 * * 1") is able
    assert (getattr(pipeline.schedule, "cron_expression", None), pipeline.config) == (
        ("0 6 * * 1", config) if able else (None, None)
    )


@pytest.mark.slow
def test_a_scheduler_catches_up_for_real_and_ends_on_sigterm_with_its_run(tmp_path: Path):
    asked = threading.Event()

    def never(_: Request) -> Answer:
        asked.set()
        return Answer(parts=lambda: iter(lambda: held.wait(60) and b"", b""))

    held = threading.Event()
    with LocalSite({"/slow": never}) as site:
        config = tmp_path / "feature.yaml"
        source = {"at": site.at("/slow"), "type": "article"}
        config.write_text(yaml.safe_dump({"author": "Ada", "sources": [source], "crawl": {"delay": 0, "timeout": 60}}))
        trigger = cron_trigger("0 0 1 1 *", "UTC")
        (tmp_path / "home").mkdir()
        make_late(
            tmp_path / "home" / "schedule.sqlite",
            config=str(config.resolve()),
            trigger=trigger,
            run="tools.schedule:run_feature_pipeline",
        )
        with subprocess.Popen(
            [sys.executable, "-m", "tools.schedule", "--cron", "0 0 1 1 *", "--config", str(config)],
            cwd=ROOT,
            env=own_environment(TWIN_HOME=str(tmp_path / "home"), CRAWL_ALLOW_PRIVATE="127.0.0.1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as scheduler:
            try:
                began = asked.wait(240)
                scheduler.send_signal(signal.SIGTERM)
                out, log = scheduler.communicate(timeout=120)
            finally:
                if scheduler.poll() is None:
                    scheduler.kill()
                held.set()
    assert began and scheduler.returncode == 0 and not out, log
    assert log.count("run started") == 1 and "Stopped. What was stored is kept" in log, log
    assert log.rstrip().endswith("stopped") and "Traceback" not in log, log


def own_environment(**values: str) -> dict[str, str]:
    """This process's environment without what names another home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZENML", "TWIN_HOME", "COV"))}
    return kept | values
