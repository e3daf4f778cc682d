"""Start a pipeline: one table of them, the same options for each."""

import fcntl
import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_engineering.bootstrap import prepare_home
from llm_engineering.domain.config import AnswerConfig, Configuration, FeatureConfig, SourceConfig
from llm_engineering.domain.dataset_config import DatasetConfig
from llm_engineering.domain.errors import StoreLocked, TwinError, UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.registry import checked_name
from llm_engineering.evaluation.questions import read_lines
from llm_engineering.rag.batch import read_questions
from llm_engineering.settings import Settings, load_settings
from llm_engineering.training.hardware import require_training
from llm_engineering.training.recipe import Recipe
from steps.progress import bar
from tools.entry import load_config, main, settings_with_logging
from tools.summary import as_json, print_summary, require_success

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False, no_args_is_help=True)
Config = Annotated[Path, typer.Option("--config", help="YAML with the numbers of the run")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="build the index anew beside the old one, then switch")]
DEFAULT = Path("configs/feature.yaml")


@app.command()
def feature(
    config: Config = DEFAULT,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="URL or path; replaces the configured ones")
    ] = None,
    author: Annotated[str | None, typer.Option("--author", help="whose writing it is")] = None,
    rebuild: Rebuild = False,
    json: AsJson = False,
) -> None:
    """Crawl the sources into the warehouse, then sync the index."""
    numbers = feature_config(config, source or [], author)
    run_pipeline("feature", numbers, json=json, rebuild=rebuild)


@app.command()
def sync(config: Config = DEFAULT, rebuild: Rebuild = False, json: AsJson = False) -> None:
    """Bring the index level with the warehouse."""
    run_pipeline("sync", load_config(config, FeatureConfig), json=json, rebuild=rebuild)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="JSON lines of an export, or the Handbook's folder")],
    config: Config = DEFAULT,
    json: AsJson = False,
) -> None:
    """Read an export into the warehouse, then sync the index."""
    run_pipeline("import", load_config(config, FeatureConfig), json=json, path=str(path))


@app.command()
def inference(
    questions: Annotated[
        Path, typer.Option("--questions", help="one question per line, or JSON lines with query, author and k")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="JSON lines of answers; what it answers already is not asked again")
    ] = None,
    config: Annotated[Path, typer.Option("--config", help="YAML with the numbers of answering")] = Path(
        "configs/inference.yaml"
    ),
    json: AsJson = False,
) -> None:
    """Answer a file of questions, with citations and what they cost."""
    numbers = load_config(config, AnswerConfig)
    read_questions(questions)  # a bad line is said before anything is started
    out = out or questions.with_suffix(".answers.jsonl")
    run_pipeline("inference", numbers, json=json, questions=str(questions), out=str(out))


@app.command()
def evaluation(
    questions: Annotated[
        Path, typer.Option("--questions", help="JSON lines: question, and sources with document and quote")
    ] = Path("examples/evaluation.jsonl"),
    out: Annotated[
        Path | None, typer.Option("--out", help="folder of the report; evaluation/ under TWIN_HOME if not given")
    ] = None,
    config: Annotated[Path, typer.Option("--config", help="YAML with the numbers of judging")] = Path(
        "configs/evaluation.yaml"
    ),
    answering: Annotated[Path, typer.Option("--answering", help="YAML with the numbers of what is judged")] = Path(
        "configs/inference.yaml"
    ),
    model: Annotated[
        str | None,
        typer.Option("--model", help="a trained model instead: NAME@VERSION, NAME, current, or a folder of training"),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="folder of the dataset whose test split judges --model; its own")
    ] = None,
    author: Annotated[
        str | None, typer.Option("--author", help="whose twin --model is, where the dataset has several authors")
    ] = None,
    json: AsJson = False,
) -> None:
    """Judge search and answers by questions with known passages; with --model, a trained model by held-out text."""
    numbers, judged = load_config(config, EvaluationConfig), load_config(answering, AnswerConfig)
    if model is not None:
        evaluate_model(model, numbers, dataset=dataset, author=author, out=out, json=json)
        return
    read_lines(questions)  # a bad line is said before anything is started
    out = out or load_settings().twin_home / "evaluation"
    run_pipeline("evaluation", numbers, json=json, answering=judged, questions=str(questions), out=str(out))


@app.command()
def dataset(
    config: Annotated[Path, typer.Option("--config", help="YAML with the numbers of the dataset")] = Path(
        "configs/dataset.yaml"
    ),
    author: Annotated[
        str | None, typer.Option("--author", help="whose writing; everybody's if nobody is named")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="what it would be, and what a teacher would cost; nothing is called or written"),
    ] = False,
    json: AsJson = False,
) -> None:
    """Build training data from the warehouse: instructions for the author's own passages, split by document, audited."""
    numbers = load_config(config, DatasetConfig)
    if author:
        numbers = numbers.model_copy(update={"author": author})
    run_pipeline("dataset", numbers, json=json, dry_run=dry_run)


@app.command()
def training(
    config: Annotated[Path, typer.Option("--config", help="recipe: YAML of configs/training/")],
    dataset: Annotated[Path, typer.Option("--dataset", help="YAML with the numbers of the dataset")] = Path(
        "configs/dataset.yaml"
    ),
    author: Annotated[str | None, typer.Option("--author", help="whose twin; everybody's if nobody is named")] = None,
    name: Annotated[str, typer.Option("--name", help="under which the twin is kept")] = "twin",
    evaluation: Annotated[Path, typer.Option("--evaluation", help="YAML with the numbers of judging")] = Path(
        "configs/evaluation.yaml"
    ),
    json: AsJson = False,
) -> None:
    """Build the dataset, train a twin on it (SFT, then DPO), judge it, keep it, and promote it if it may be."""
    recipe, numbers = load_config(config, Recipe), load_config(dataset, DatasetConfig)
    judging = load_config(evaluation, EvaluationConfig)
    if author:
        numbers = numbers.model_copy(update={"author": author})
    checked_name(name)
    require_training()  # before anything is built
    logging.getLogger("llm_engineering.training").setLevel(logging.INFO)  # what a run is made of, and how it goes
    run_pipeline(
        "training", recipe, json=json, dataset=numbers, evaluation=judging, keep_as=name, author=numbers.author or ""
    )


def evaluate_model(
    model: str, config: EvaluationConfig, *, dataset: Path | None, author: str | None, out: Path | None, json: bool
) -> None:
    """Judge one trained model; its report lies under the model's name unless ``out`` says where."""
    name = re.sub(r"[^A-Za-z0-9._@-]+", "-", model).strip("-.") or "model"
    run_pipeline(
        "model evaluation",
        config,
        json=json,
        model=model,
        dataset=str(dataset or ""),
        author=author or "",
        out=str(out or load_settings().twin_home / "evaluation" / name),
    )


def feature_config(path: Path, sources: list[str], author: str | None) -> FeatureConfig:
    """The configuration of a run; sources from the command line replace the file's, and then need their own author."""
    config = load_config(path, FeatureConfig)
    if sources and not author:
        raise UsageError("--source without --author: whose writing is it?", hint='Add --author "Full Name".')
    update: dict[str, object] = {}
    if sources:
        update["sources"] = tuple(SourceConfig(at=_in_unicode(at)) for at in sources)
    if author:
        update["author"] = author
    config = config.model_copy(update=update)
    if not config.sources:
        raise UsageError(f"{path} names no source", hint="Add sources there, or use --source URL_OR_PATH.")
    if not config.author and any(source.author is None for source in config.sources):
        raise UsageError(f"{path} names no author", hint='Add author there, or use --author "Full Name".')
    return config


def _in_unicode(at: str) -> str:
    """The address as given; a path of bytes that are no UTF-8, which nothing else could write down, as ``file://`` URI."""
    try:
        at.encode()
    except UnicodeEncodeError:
        return Path(at).absolute().as_uri()
    return at


def run_pipeline(name: str, config: Configuration, *, json: bool = False, **options: object) -> dict[str, Any]:
    """Run one pipeline of the table to its end, print its reports, and return them by step.

    Raises the error of the step that failed, and :class:`TwinError` if nothing at all could be crawled, imported,
    answered or evaluated.
    """
    settings = settings_with_logging()
    prepare_home(settings)
    started = time.perf_counter()
    with _alone(settings.twin_home / f"{name}.lock", name), _orchestrator_errors():
        with bar("start"):  # seconds of importing, in which a terminal should not look dead
            start_orchestrator(settings)
            pipeline = _pipelines()[name]
        reports = _reports(_run(pipeline, config, options))
    if json:
        sys.stdout.write(as_json(reports) + "\n")
    else:
        print_summary(name, reports, seconds=time.perf_counter() - started)
    sys.stdout.flush()
    require_success(reports)
    return reports


def prepare_orchestrator(settings: Settings) -> None:
    """Keep ZenML's state under ``TWIN_HOME`` and quiet, unless the environment already says otherwise. Before its import."""
    defaults = {
        "ZENML_CONFIG_PATH": str((settings.twin_home / "zenml").resolve()),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "INFO" if settings.log_level.lower() == "debug" else "CRITICAL",
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "ZENML_DISABLE_STEP_LOGS_STORAGE": "true",
        "ZENML_DISABLE_PIPELINE_LOGS_STORAGE": "true",
        "AUTO_OPEN_DASHBOARD": "false",
    }
    for variable, value in defaults.items():
        os.environ.setdefault(variable, value)


def start_orchestrator(settings: Settings) -> None:
    """Open ZenML's own database, which the first start makes: one process at a time, and anew after a start cut short."""
    prepare_orchestrator(settings)
    with (settings.twin_home / "zenml.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        discard_unborn(settings.twin_home / "zenml" / "local_stores" / "default_zen_store" / "zenml.db")
        from zenml.client import Client

        _ = Client().zen_store
    keep_own_logging(settings)


def keep_own_logging(settings: Settings) -> None:
    """Undo what ZenML's import does to the root logger: silence ours, and write to standard output, which is for programs.

    ZenML's own lines and Python's warnings keep the verbosity that ZenML was given, on standard error.
    """
    from zenml.logger import ZenMLConsoleHandler

    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, ZenMLConsoleHandler)]:
        root.removeHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name in ("zenml", "py.warnings"):
        logging.getLogger(name).setLevel(os.environ["ZENML_LOGGING_VERBOSITY"].upper())


def discard_unborn(database: Path) -> None:
    """Remove a database that ZenML had not finished making: nothing is in it yet, and ZenML would refuse it for ever."""
    if not database.exists():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection:  # damaged: ZenML says what it finds
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        born = "alembic_version" in tables and connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0]
        if not born:
            database.unlink()


@contextmanager
def _orchestrator_errors() -> Iterator[None]:
    """Whatever ZenML meets in its own state, in our words. Errors of a step are ours already and pass."""
    try:
        yield
    except _engine_errors() as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TwinError(
            f"ZenML cannot work with its state in {os.environ['ZENML_CONFIG_PATH']}: {first}",
            hint="Check space and permissions there. If it is damaged, remove that folder: the next run makes it anew.",
        ) from error


def _engine_errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError
    from zenml.exceptions import ZenMLBaseException

    return OSError, SQLAlchemyError, ZenMLBaseException


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Never two runs of one pipeline at once: the second is refused at once."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreLocked(f"The {name} pipeline is running already", hint="Wait for it to end.") from error
        yield


def register_schedule(settings: Settings, config: FeatureConfig, cron: str) -> bool:
    """Hand the schedule to the active ZenML orchestrator, if that one can schedule; says whether it could."""
    with _orchestrator_errors():
        start_orchestrator(settings)
        from zenml.client import Client

        return hand_over(_pipelines()["feature"], Client().active_stack.orchestrator, config, cron)


def hand_over(pipeline: Any, orchestrator: Any, config: FeatureConfig, cron: str) -> bool:  # noqa: ANN401  # ZenML's
    """Register the pipeline's schedule with an orchestrator that can keep it; says whether that one can."""
    from zenml.config.schedule import Schedule

    if not orchestrator.config.is_schedulable:
        return False
    pipeline.with_options(schedule=Schedule(cron_expression=cron))(config=config)
    return True


def _pipelines() -> dict[str, Any]:
    from pipelines.dataset import dataset_pipeline
    from pipelines.evaluation import evaluation_pipeline, model_evaluation_pipeline
    from pipelines.feature import feature_pipeline, import_pipeline, sync_pipeline
    from pipelines.inference import inference_pipeline
    from pipelines.training import training_pipeline

    return {
        "feature": feature_pipeline,
        "sync": sync_pipeline,
        "import": import_pipeline,
        "inference": inference_pipeline,
        "training": training_pipeline,
        "dataset": dataset_pipeline,
        "evaluation": evaluation_pipeline,
        "model evaluation": model_evaluation_pipeline,
    }


def _run(pipeline: Callable[..., Any], config: Configuration, options: dict[str, object]) -> "PipelineRunResponse":
    from steps.failure import last_failure

    try:
        run = pipeline(config=config, **options)
    except RuntimeError as error:
        failure = last_failure()
        if isinstance(
            failure, OSError
        ):  # of our own step: not about ZenML's state, as which it would be said otherwise
            where = f" at {failure.filename}" if failure.filename else ""
            raise TwinError(
                f"The pipeline failed{where}: {failure.strerror or failure}", hint="Check space and permissions there."
            ) from failure
        if failure is not None:
            raise failure from None
        raise TwinError(f"The pipeline failed: {error}", hint="Run it with LOG_LEVEL=debug.") from error
    if run is None:
        raise TwinError("The pipeline was handed to a remote orchestrator", hint="See its dashboard for the outcome.")
    from zenml.client import Client

    return Client().get_pipeline_run(run.id)


def _reports(run: "PipelineRunResponse") -> dict[str, Any]:
    return {name: next(iter(step.regular_outputs.values())).load() for name, step in run.steps.items()}


if __name__ == "__main__":
    main(app)
