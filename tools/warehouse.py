"""The warehouse: what is in it, out of it, into it, and forgetting."""

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llm_engineering import bootstrap
from llm_engineering.crawl.transfer import export_lines, import_from
from llm_engineering.dataset.store import holding, unreadable
from llm_engineering.domain.entities import TombstoneReason
from llm_engineering.domain.errors import UnknownDocument, UsageError
from llm_engineering.training.keep import clear_exports
from llm_engineering.training.lineage import runs_that_saw
from tools.entry import main, settings_with_logging
from tools.summary import require_success

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False, no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]


@app.command()
def status(json: AsJson = False) -> None:
    """Counts of authors, documents, revisions, tombstones and links."""
    with bootstrap.open_warehouse(settings_with_logging()) as warehouse:
        counts = warehouse.status().model_dump(mode="json")
        counts["authors"] = [author.full_name for author in warehouse.authors()]
    if json:
        sys.stdout.write(jsonlib.dumps(counts, ensure_ascii=False) + "\n")
        return
    table = Table(show_header=False)
    for name, value in counts.items():
        parts = [f"{count} {word}" for word, count in value.items()] if isinstance(value, dict) else value
        table.add_row(name, ", ".join(parts) or "none" if isinstance(parts, list) else str(parts))
    Console().print(table)


@app.command()
def export(file: Annotated[Path, typer.Argument(help="file of JSON lines to write, - for standard output")]) -> None:
    """Write everything as JSON lines, without loss."""
    with bootstrap.open_warehouse(settings_with_logging()) as warehouse:
        if str(file) == "-":
            sys.stdout.writelines(f"{line}\n" for line in export_lines(warehouse))
            return
        part = file.with_name(f"{file.name}.part")
        try:
            with part.open("w", encoding="utf-8") as out:
                out.writelines(f"{line}\n" for line in export_lines(warehouse))
            part.replace(file)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UsageError(
                f"{file} cannot be written: {error.strerror}", hint="Name a file in an existing folder."
            ) from error
    sys.stdout.write(f"written to {file}\n")


@app.command("import")
def import_(
    path: Annotated[
        Path, typer.Argument(help="JSON lines of an export, or the Handbook's data_warehouse_raw_data folder")
    ],
    json: AsJson = False,
) -> None:
    """Read an export; what is there already changes nothing. `poe run-sync-pipeline` then brings the index level."""
    settings = settings_with_logging()
    bootstrap.prepare_home(settings)
    with bootstrap.open_warehouse(settings) as warehouse:
        report = import_from(warehouse, path)
    if json:
        sys.stdout.write(report.model_dump_json() + "\n")
    else:
        for refusal in report.refused:
            sys.stdout.write(f"refused  {refusal}\n")
        sys.stdout.write(f"{report.written} written, {report.present} already there, {len(report.refused)} refused\n")
    sys.stdout.flush()
    require_success({"import_documents": report})


@app.command()
def forget(document: Annotated[str, typer.Argument(help="document id, URL or path")], json: AsJson = False) -> None:
    """Withdraw a document: its text is erased here at once, and no later crawl brings it back."""
    settings = settings_with_logging()
    with bootstrap.open_warehouse(settings) as warehouse:
        found = warehouse.find_documents(document) or warehouse.find_documents(_as_uri(document))
        if not found:
            raise UnknownDocument(
                f"No document {document!r} in the warehouse", hint="Give its id, or its URL as shown by search."
            )
        buried = warehouse.bury(
            [item.id for item in found], reason=TombstoneReason.WITHDRAWN, detail="forgotten by request"
        )
    bootstrap.open_blind_pairs(settings).forget([item.id for item in found])
    ids = [item.id for item in found]
    datasets = bootstrap.datasets_folder(settings)
    held, mute = [f"{card.name} {card.version}" for _, card in holding(datasets, ids)], unreadable(datasets)
    registry = bootstrap.open_registry(settings)
    registry.tidy()
    clear_exports(settings.twin_home / "exports")
    saw = registry.saw(ids)
    runs, unknown = runs_that_saw(bootstrap.training_folder(settings), ids)
    places = [settings.twin_home / "evaluation" / model.reference for model in saw]
    reports = [place for place in places if place.exists()]
    if json:
        told = {
            "forgotten": [item.document_id for item in buried],
            "datasets": held,
            "datasets_unknown": [str(folder) for folder in mute],
            "models": [model.reference for model in saw],
            "runs": [str(run) for run in runs],
            "runs_unknown": [str(run) for run in unknown],
            "reports": [str(report) for report in reports],
        }
        sys.stdout.write(jsonlib.dumps(told) + "\n")
        return
    for item in found:
        sys.stdout.write(f"forgotten  {item.url}\n")
    sys.stdout.write("The text is erased here. It leaves index and cleaned documents with: poe run-sync-pipeline\n")
    if held:
        sys.stdout.write(
            f"It is still in the datasets {', '.join(held)}. All of them are removed by: poe run-dataset-pipeline\n"
        )
    for folder in mute:
        sys.stdout.write(f"{folder} has no card that can be read: the text may be in it. Remove that folder.\n")
    for run in runs:
        sys.stdout.write(f"It is still in the weights of the training run {run}. Remove that folder.\n")
    for run in unknown:
        sys.stdout.write(
            f"What the training run {run} saw is gone or has changed: the text may be in its weights. Remove that folder if "
            "you cannot rule it out.\n"
        )
    for model in saw:
        sys.stdout.write(f"It is still in the weights of {model.reference} ({model.stage}).\n")
    if saw:
        sys.stdout.write(
            "Weights cannot lose a text. Erase each with: poe models retire NAME@VERSION --erase. Then build the dataset anew "
            "and train again.\n"
        )
    for report in reports:
        sys.stdout.write(f"What such a model wrote may be quoted in {report}. Remove that folder.\n")


def _as_uri(path: str) -> str:
    return Path(path).expanduser().resolve().as_uri() if "://" not in path else path


if __name__ == "__main__":
    main(app)
