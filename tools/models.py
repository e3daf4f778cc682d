"""Trained models: what there is, which one answers, keeping a run, giving one away."""

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llm_engineering import bootstrap
from llm_engineering.domain.errors import StoreError, UsageError
from llm_engineering.domain.ports import Registry
from llm_engineering.domain.registry import ModelStage, ModelVersion, Reference
from llm_engineering.settings import Settings
from tools.entry import main, settings_with_logging

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False, no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Version = Annotated[str, typer.Argument(help="NAME@VERSION")]
Gguf = Annotated[
    list[str] | None, typer.Option("--gguf", help="a GGUF variant to write too, such as q8_0 or q4_k_m; once for each")
]
Base = Annotated[str | None, typer.Option("--base", help="folder of the base, where it was moved")]


@app.command("list")
def list_(json: AsJson = False) -> None:
    """Every version with its stage, and whether its files are there."""
    settings = settings_with_logging()
    registry = bootstrap.open_registry(settings)
    found = [(model, _standing(registry, model)) for model in registry.versions()]
    if json:
        _print([_shown(model) | {"files_are": standing} for model, standing in found])
        return
    if not found:
        sys.stdout.write("No trained model yet. Train one, then: poe models register RUN --name NAME\n")
        return
    table = Table("model", "stage", "trained", "documents", "dataset", "date", "files")
    for model, standing in found:
        lineage = model.lineage
        table.add_row(
            model.reference, model.stage.value, " + ".join(lineage.trained), str(len(lineage.document_ids)),
            lineage.dataset_version, f"{model.at:%Y-%m-%d}", standing,
        )  # fmt: skip
    Console().print(table)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for its current version")], json: AsJson = False
) -> None:
    """Everything about one version: files, measures, and the way back to its documents."""
    settings = settings_with_logging()
    registry = bootstrap.open_registry(settings)
    if Reference.parse(model).version is None and (known := registry.versions(Reference.parse(model).name)):
        current = [each for each in known if each.stage is ModelStage.CURRENT]
        version = current[0] if current else known[-1]
    else:
        version = registry.find(model)
    standing = _standing(registry, version)
    titles = _titles(settings, version)
    if json:
        _print(_shown(version) | {"files_are": standing, "documents": titles})
        return
    place = str(registry.folder(version)) if standing == "whole" else standing
    rows = {
        "model": f"{version.reference} ({version.stage.value})",
        "files": place,
        "base": f"{version.lineage.base} ({version.lineage.base_digest})",
        "trained": " + ".join(version.lineage.trained),
        "dataset": f"{version.lineage.dataset}, version {version.lineage.dataset_version}",
        "prompts": f"version {version.lineage.prompt_version}",
        "measures": "\n".join(f"{name}: {value:.4g}" for name, value in version.metrics.items()) or "not evaluated",
        "documents": "\n".join(titles.values()),
        "size": f"{sum(file.bytes for file in version.files) / 1e6:.1f} MB in {len(version.files)} files",
        "date": f"{version.at:%Y-%m-%d %H:%M}",
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    if standing == "whole":
        sys.stdout.write(f"It answers with: LLM_MODEL=twin:{version.reference} poe serve\n")


@app.command()
def register(
    run: Annotated[Path, typer.Argument(help="folder of a finished stage, such as …/sft or …/dpo")],
    name: Annotated[str, typer.Option("--name", help="under which it is kept")],
    start: Annotated[
        Path | None, typer.Option("--start", help="the SFT run that a DPO run began with, where it was moved")
    ] = None,
    base: Base = None,
    gguf: Gguf = None,
    json: AsJson = False,
) -> None:
    """Merge and check a run (the parity gate), and keep it as a candidate. What was kept before is not kept twice."""
    from llm_engineering.training.keep import keep

    settings = settings_with_logging()
    home = bootstrap.prepare_home(settings)
    version, report = keep(
        run, name=name, registry=bootstrap.open_registry(settings), work=home / "exports", start=start, base=base,
        gguf=gguf or (),
    )  # fmt: skip
    if json:
        _print(_shown(version) | {"export": report.model_dump(mode="json") if report else None})
        return
    lines = report.lines() if report else ("It is kept already; nothing was done.",)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"{version.reference} ({version.stage.value})\n")
    if version.stage is not ModelStage.CURRENT:
        sys.stdout.write(f"To answer with it: poe models promote {version.reference}\n")


@app.command()
def promote(model: Version) -> None:
    """Make a version the current one of its name; the one before is retired. A running service takes it up at its next start."""
    version = bootstrap.open_registry(settings_with_logging()).promote(model)
    sys.stdout.write(f"{version.reference} is current: LLM_MODEL=twin:{version.name} answers with it from now on\n")


@app.command()
def rollback(name: Annotated[str, typer.Argument(help="NAME")]) -> None:
    """Make the version current again that was current before."""
    version = bootstrap.open_registry(settings_with_logging()).rollback(name)
    sys.stdout.write(f"{version.reference} is current again\n")


@app.command()
def retire(
    model: Version,
    erase: Annotated[bool, typer.Option("--erase", help="remove its files for good; the record stays")] = False,
) -> None:
    """Take a version out of use."""
    version = bootstrap.open_registry(settings_with_logging()).retire(model, erase=erase)
    sys.stdout.write(f"{version.reference} is retired{', its files are erased' if erase else ''}\n")


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="NAME@VERSION, or the folder of a finished stage")],
    out: Annotated[Path, typer.Option("--out", help="folder to write; it must not exist")],
    base: Base = None,
    gguf: Gguf = None,
    json: AsJson = False,
) -> None:
    """Write adapter, merged 16-bit weights, GGUF variants and a model card into a folder, whole or not at all."""
    from llm_engineering.training.export import copy_release
    from llm_engineering.training.export import export as export_run

    settings = settings_with_logging()
    if Path(source).is_dir():
        report = export_run(Path(source), out, name=out.name, base=base, gguf=gguf or ())
        lines, content = report.lines(), report.model_dump(mode="json")
    else:
        registry = bootstrap.open_registry(settings)
        version = registry.find(source)
        if base:
            raise UsageError("--base belongs to the folder of a run", hint="A registered version is merged already.")
        sizes = copy_release(registry.folder(version), out, name=version.reference.replace("@", "-"), gguf=gguf or ())
        parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
        lines, content = (f"{version.reference} exported to {out}: {parts}",), {"folder": str(out), "bytes": sizes}
    if json:
        _print(content)
        return
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _standing(registry: Registry, model: ModelVersion) -> str:
    if model.erased:
        return "erased"
    try:
        registry.folder(model)
    except StoreError as error:
        return error.message
    return "whole"


def _shown(model: ModelVersion) -> dict[str, object]:
    return {"reference": model.reference} | model.model_dump(mode="json")


def _titles(settings: Settings, model: ModelVersion) -> dict[str, str]:
    """Each document that it saw, by title, as the warehouse knows it now."""
    with bootstrap.open_warehouse(settings) as warehouse:
        states = warehouse.state(model.lineage.document_ids)
    told: dict[str, str] = {}
    for document in model.lineage.document_ids:
        state = states.get(document)
        if state is None:
            told[document] = f"{document} (not in the warehouse)"
        elif state.revision is None or not state.live:
            told[document] = f"{state.document.url} (gone or withdrawn)"
        else:
            told[document] = f"{state.revision.title}  {state.document.url}"
    return told


def _print(content: object) -> None:
    sys.stdout.write(jsonlib.dumps(content, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(app)
