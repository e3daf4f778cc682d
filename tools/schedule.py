"""The feature pipeline on a cron expression: in the foreground, or handed to an orchestrator that can schedule."""

import hashlib
import logging
import signal
import subprocess
import sys
import threading
from datetime import tzinfo
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobEvent
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from sqlalchemy.exc import SQLAlchemyError

from llm_engineering.bootstrap import prepare_home
from llm_engineering.domain.errors import StoreUnavailable, UsageError
from tools.entry import main, settings_with_logging
from tools.run import DEFAULT, feature_config, register_schedule

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
log = logging.getLogger("schedule")
RUN = "tools.schedule:run_feature_pipeline"
"""What the job store remembers to call; a name, since a stored job outlives its process."""
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Cron counts them from Sunday, 0 or 7; the scheduling engine counts from Monday, and so is told names."""
Trigger: TypeAlias = CronTrigger | OrTrigger
_under_way: list[subprocess.Popen[str]] = []


@app.command()
def schedule(
    cron: Annotated[str, typer.Option("--cron", help='five fields in quotes, as in "0 6 * * *"')],
    config: Annotated[Path, typer.Option("--config", help="YAML with the numbers of the run")] = DEFAULT,
    timezone: Annotated[str, typer.Option("--timezone", help="in which the fields are read")] = "UTC",
) -> None:
    """Run the feature pipeline whenever the expression says so, until stopped."""
    settings = settings_with_logging()
    logging.getLogger("schedule").setLevel(logging.INFO)
    trigger = cron_trigger(cron, timezone)
    numbers = feature_config(config, [], None)
    home = prepare_home(settings)
    if register_schedule(settings, numbers, cron):
        sys.stdout.write("The active ZenML orchestrator schedules by itself, in its own time zone: registered there.\n")
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    scheduler = foreground(home / "schedule.sqlite", trigger, str(config.resolve()))
    for job in scheduler.get_jobs():
        log.info("started; next run at %s", job.next_run_time)
    stop.wait()
    stop_run()
    scheduler.shutdown(wait=True)
    log.info("stopped")


def foreground(store: Path, trigger: Trigger, config: str, *, run: str = RUN) -> BackgroundScheduler:
    """A running scheduler with the one job, never two runs of it at once.

    Its next time is kept in ``store``: a time missed while nothing was running is made up for at the start, once.
    """
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{store.resolve()}")},
        job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        timezone=_timezone(trigger),
    )
    scheduler.add_listener(_skipped, EVENT_JOB_MAX_INSTANCES)
    job = hashlib.sha256(f"{trigger!r} {config}".encode("utf-8", "surrogateescape")).hexdigest()
    try:
        scheduler.start(paused=True)
        if scheduler.get_job(job) is None:
            scheduler.remove_all_jobs()
            scheduler.add_job(run, trigger, args=[config], id=job)
    except SQLAlchemyError as error:
        raise StoreUnavailable(
            f"The schedule in {store} cannot be kept: {str(error).splitlines()[0]}",
            hint="Check space and permissions; if the file is damaged, remove it.",
        ) from error
    scheduler.resume()
    return scheduler


def run_feature_pipeline(config: str) -> int:
    """Start one run as a process of its own, log what it says as it says it, and return its exit status."""
    log.info("run started: %s", config)
    command = [sys.executable, "-m", "tools.run", "feature", "--config", config]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as run:
        _under_way.append(run)
        for line in run.stdout or ():
            log.info("%s", line.rstrip())
    _under_way.remove(run)
    log.log(logging.INFO if run.returncode == 0 else logging.ERROR, "run ended with status %d", run.returncode)
    return run.returncode


def stop_run() -> None:
    """Interrupt the run under way, if there is one; what it stored is kept."""
    for run in list(_under_way):
        run.send_signal(signal.SIGINT)


def cron_trigger(cron: str, timezone: str) -> Trigger:
    """The times that a cron expression means; :class:`UsageError` if it is none.

    As in cron a day of the month and a day of the week mean either, unless one of the two begins with ``*``.
    """
    try:
        minute, hour, day, month, weekday = cron.split()
    except ValueError:
        raise _no_cron(cron, timezone, f"it has {len(cron.split())} fields instead of five") from None
    days = [(day, weekday)] if "*" in (day[0], weekday[0]) else [(day, "*"), ("*", weekday)]
    try:
        either = [
            CronTrigger.from_crontab(f"{minute} {hour} {on} {month} {_named(of)}", timezone=timezone) for on, of in days
        ]
    except (ValueError, LookupError) as error:
        raise _no_cron(cron, timezone, str(error)) from error
    return either[0] if len(either) == 1 else OrTrigger(either)


def _no_cron(cron: str, timezone: str, problem: str) -> UsageError:
    return UsageError(
        f"{cron!r} in {timezone} is no cron expression: {problem}", hint='Five fields in quotes, as in "0 6 * * *".'
    )


def _timezone(trigger: Trigger) -> tzinfo:
    one = trigger.triggers[0] if isinstance(trigger, OrTrigger) else trigger
    zone: tzinfo = one.timezone
    return zone


def _named(weekdays: str) -> str:
    """The field as names of single days; raises ``ValueError`` saying what is wrong with it."""
    if weekdays == "*":
        return weekdays
    return ",".join(name for part in weekdays.lower().split(",") for name in _names(part))


def _names(part: str) -> list[str]:
    span, stepped, step = part.partition("/")
    if stepped and not (step.isdecimal() and int(step)):
        raise ValueError(f"the step {step!r} of {part!r} is no number above 0")
    first, spanning, last = ("0-6" if span == "*" else span).partition("-")
    begin = _number(first)
    end = _number(last) if spanning else 6 if stepped else begin
    if spanning and end == 0 < begin:
        if last.isdecimal():
            raise ValueError(f"{span!r} runs backwards: Sunday at the end of a span is 7")
        end = 7
    if end < begin:
        raise ValueError(
            f"{span!r} runs backwards: a week begins with Sunday, which is 0, and ends with Sunday, which is 7"
        )
    return [WEEKDAYS[number] for number in range(begin, end + 1, int(step or 1))]


def _number(day: str) -> int:
    """A day's number: 0 to 7, or the first three letters of its English name."""
    if day in WEEKDAYS:
        return WEEKDAYS.index(day)
    if day.isdecimal() and int(day) < len(WEEKDAYS):
        return int(day)
    raise ValueError(f"{day!r} is no day of the week: they are 0 (or sun) to 6 (or sat), and 7 for Sunday")


def _skipped(event: JobEvent) -> None:
    log.warning("a run is still going on: this time is skipped (%s)", event.job_id)


if __name__ == "__main__":
    from tools import schedule as named  # a stored job is found under the module's own name, not under __main__

    main(named.app)
