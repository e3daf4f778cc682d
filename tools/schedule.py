"""The feature pipeline on a cron expression: in the foreground, or handed to an orchestrator that can schedule."""

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobEvent
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from llm_engineering.bootstrap import prepare_home
from llm_engineering.domain.errors import UsageError
from tools.entry import main, settings_with_logging
from tools.run import DEFAULT, feature_config, register_schedule

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
log = logging.getLogger("schedule")


@app.command()
def schedule(
    cron: Annotated[str, typer.Option("--cron", help='five fields, as in "0 6 * * *"')],
    config: Annotated[Path, typer.Option("--config", help="YAML with the numbers of the run")] = DEFAULT,
    timezone: Annotated[str, typer.Option("--timezone", help="in which the fields are read")] = "UTC",
) -> None:
    """Run the feature pipeline whenever the expression says so, until stopped."""
    settings = settings_with_logging()
    logging.getLogger("schedule").setLevel(logging.INFO)
    trigger = _trigger(cron, timezone)
    numbers = feature_config(config, [], None)
    home = prepare_home(settings)
    if register_schedule(settings, numbers, cron):
        sys.stdout.write("The active ZenML orchestrator schedules by itself: the schedule is registered there.\n")
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    scheduler = foreground(home / "schedule.sqlite", trigger, str(config.resolve()))
    for job in scheduler.get_jobs():
        log.info("started; next run at %s", job.next_run_time)
    stop.wait()
    scheduler.shutdown(wait=False)
    log.info("stopped")


def foreground(store: Path, trigger: CronTrigger, config: str) -> BackgroundScheduler:
    """A running scheduler with the one job, never two runs of it at once.

    Its next time is kept in ``store``: a time missed while nothing was running is made up for at the start, once.
    """
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{store.resolve()}")},
        job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        timezone=trigger.timezone,
    )
    scheduler.add_listener(_skipped, EVENT_JOB_MAX_INSTANCES)
    scheduler.start(paused=True)
    job = f"feature {trigger} {config}"[-190:]
    if scheduler.get_job(job) is None:
        scheduler.remove_all_jobs()
        scheduler.add_job(run_feature_pipeline, trigger, args=[config], id=job)
    scheduler.resume()
    return scheduler


def run_feature_pipeline(config: str) -> int:
    """Start one run as a process of its own, log its report, and return its exit status."""
    log.info("run started: %s", config)
    done = subprocess.run(
        [sys.executable, "-m", "tools.run", "feature", "--config", config], capture_output=True, text=True, check=False
    )
    for line in (done.stdout + done.stderr).splitlines():
        log.info("%s", line)
    log.log(logging.INFO if done.returncode == 0 else logging.ERROR, "run ended with status %d", done.returncode)
    return done.returncode


def _trigger(cron: str, timezone: str) -> CronTrigger:
    try:
        return CronTrigger.from_crontab(cron, timezone=timezone)
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"{cron!r} in {timezone} is no cron expression: {error}", hint='Five fields, as in "0 6 * * *".'
        ) from error


def _skipped(event: JobEvent) -> None:
    log.warning("a run is still going on: this time is skipped (%s)", event.job_id)


if __name__ == "__main__":
    main(app)
