"""The index: its state, and moving it between engines."""

import json as jsonlib
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llm_engineering import bootstrap
from llm_engineering.domain.errors import UsageError
from tools.entry import main, settings_with_logging

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def status(json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output")] = False) -> None:
    """Engine, counts, what it was built with, and how far it is behind the warehouse."""
    settings = settings_with_logging()
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        state = index.status()
        mark = warehouse.watermark(state.watermark_name) if state.watermark_name else None
        rows = state.model_dump(mode="json") | {"watermark": mark, "behind": warehouse.head() - (mark or 0)}
    if json:
        sys.stdout.write(jsonlib.dumps(rows, ensure_ascii=False) + "\n")
        return
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(
            name, "\n".join(f"{key}: {part}" for key, part in value.items()) if isinstance(value, dict) else str(value)
        )
    Console().print(table)


@app.command()
def copy(
    to: Annotated[str, typer.Option("--to", help="path or http(s):// address of the index to fill")],
    source: Annotated[
        str | None, typer.Option("--from", help="address of the index to read; INDEX_URL by default")
    ] = None,
) -> None:
    """Copy an index to another engine; nothing is embedded again. Afterwards set INDEX_URL to the new address."""
    settings = settings_with_logging()
    origin = source or settings.index_url
    if origin == to:
        raise UsageError("--from and --to are the same index", hint="Name another address.")
    with (
        bootstrap.open_warehouse(settings) as warehouse,
        bootstrap.open_index(settings, url=origin) as old,
        bootstrap.open_index(settings, url=to) as new,
    ):
        before = old.status().watermark_name
        mark = warehouse.watermark(before) if before else None
        count = bootstrap.copy_index(old, new)
        after = new.status().watermark_name
        if after and mark is not None:
            warehouse.set_watermark(after, mark)
    sys.stdout.write(f"{count} chunks copied from {origin} to {to}\n")


if __name__ == "__main__":
    main(app)
