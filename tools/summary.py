"""What a person reads at the end of a run: the links worth a line, then one table."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from llm_engineering.domain.errors import SourceError, TwinError

WORTH_A_LINE = ("refused", "failed", "gone", "missing", "moved")
ROUTINE = frozenset({"listing-page"})
"""Reasons that every crawl of a site gives many times over: counted in the table, their lines are left to ``--json``."""
MOST_LINES = 50
"""Links with a word to say that a terminal shows; the totals and ``--json`` have all."""

Reports = Mapping[str, Any]
"""What the steps returned, by step."""


def as_json(reports: Reports) -> str:
    """All reports as one JSON document."""
    return json.dumps({name: report.model_dump(mode="json") for name, report in reports.items()}, ensure_ascii=False)


def print_summary(name: str, reports: Reports, *, seconds: float, console: Console | None = None) -> None:
    """Lines and table of one run that took so long as a whole."""
    console = console or Console()
    if "answer_questions" in reports:
        _answers(console, reports["answer_questions"])
        return
    if "write_evaluation" in reports:
        _evaluation(console, reports["write_evaluation"], seconds)
        return
    if "train_sft" in reports:
        _training(console, reports, seconds)
        return
    if "build_dataset" in reports:
        _dataset(console, reports["build_dataset"], reports["store_dataset"], seconds)
        return
    crawled, imported = reports.get("crawl_sources"), reports.get("import_documents")
    table = _table(f"{name} pipeline, {seconds:.1f} s")
    if crawled is not None:
        _links(console, table, crawled)
    if imported is not None:
        for refusal in imported.refused:
            _line(console, f" refused  {refusal}")
        table.add_row(
            "import", f"{imported.written} written, {imported.present} already there, {len(imported.refused)} refused"
        )
    synced, stored = reports["sync_index"], reports["store_features"]
    table.add_row(
        "documents", f"{synced.documents} indexed, {synced.removed} removed, {stored.documents} in the corpus"
    )
    table.add_row("chunks", f"{synced.chunks} published, {synced.retired} retired")
    table.add_row("vectors", f"{synced.embedded} embedded, {synced.reused} reused")
    table.add_row("cleaned", f"{stored.artifact} ({'new' if stored.written else 'unchanged'})")
    spent = {"crawl": getattr(crawled, "seconds", 0.0), **synced.seconds}
    spent["start and bookkeeping"] = seconds - sum(spent.values())
    table.add_row("seconds", ", ".join(f"{stage} {value:.1f}" for stage, value in spent.items() if value >= 0.05))
    console.print(table)


def require_success(reports: Reports) -> None:
    """Raise for a run that came to its end and achieved nothing at all."""
    crawled, answered = reports.get("crawl_sources"), reports.get("answer_questions")
    if crawled is not None and not crawled.succeeded:
        found = ", ".join(f"{count} {outcome}" for outcome, count in crawled.totals.items())
        raise SourceError(
            f"Nothing could be read ({found or 'the sources are empty'})",
            hint="The report says why for each link; what was stored before is kept.",
        )
    imported = reports.get("import_documents")
    if imported is not None and imported.refused and not imported.written + imported.present:
        raise SourceError(
            f"Nothing could be imported: all {len(imported.refused)} entries were refused",
            hint="The report says why for each.",
        )
    if answered is not None and not answered.answered + answered.kept:
        raise TwinError("No question was answered", hint="The report says why for each.")
    evaluated = reports.get("write_evaluation")
    if evaluated is not None and evaluated.empty:
        why = "; ".join(dict.fromkeys(part.missing.rstrip(".") for part in evaluated.parts if part.missing))
        raise TwinError(f"Nothing was evaluated: {why}", hint=f"See {evaluated.out}.")


def _links(console: Console, table: Table, crawled: Any) -> None:  # noqa: ANN401  # what the step returned
    told = [line for line in crawled.lines if line.outcome in WORTH_A_LINE and line.reason not in ROUTINE]
    if len(told) > MOST_LINES:
        _line(console, f"{len(told) - MOST_LINES} more lines, which --json has; the last {MOST_LINES}:")
    for line in told[-MOST_LINES:]:
        _line(console, f"{line.outcome.value:>8}  {line.url}  {line.detail.removeprefix(line.url).strip()}".rstrip())
    table.add_row("links", ", ".join(f"{count} {outcome}" for outcome, count in crawled.totals.items()) or "none")
    if crawled.refusals:
        table.add_row("reasons", ", ".join(f"{count} {reason}" for reason, count in crawled.refusals.items()))


def _answers(console: Console, report: Any) -> None:  # noqa: ANN401  # what the step returned
    for failure in report.failed[-MOST_LINES:]:
        _line(console, f"  failed  {failure.query}  {failure.reason}")
    table = _table(f"inference pipeline, {report.seconds:.1f} s")
    table.add_row(
        "questions",
        f"{report.questions}: {report.answered} answered, {report.kept} answered before, {len(report.failed)} failed",
    )
    without = report.answered + report.kept - report.grounded
    table.add_row("sources", f"{report.grounded} answers cite one, {without} do not")
    table.add_row("tokens", f"{report.prompt_tokens} read, {report.completion_tokens} written")
    table.add_row("answers", report.out)
    console.print(table)


def _evaluation(console: Console, report: Any, seconds: float) -> None:  # noqa: ANN401  # what the step returned
    table = _table(f"evaluation pipeline, {seconds:.1f} s")
    for part in report.parts:
        table.add_row(part.name, part.missing or ", ".join(f"{count:,} {name}" for name, count in part.counts.items()))
        for figure in part.figures:
            if (found := figure.interval) is not None:
                told = f"{found.mean:.3f} ({found.low:.3f} – {found.high:.3f}, {found.n} {figure.over})"
                table.add_row(f"  {figure.name}", told)
    if report.left_out:
        table.add_row("not asked", f"{len(report.left_out)} questions; the report says why")
    table.add_row("report", report.out)
    console.print(table)


def _dataset(console: Console, report: Any, stored: Any, seconds: float) -> None:  # noqa: ANN401  # what the steps returned
    for example in report.examples:
        _line(console, f"  {' '.join(example.split())}")
    table = _table(f"dataset pipeline{', dry run' if report.dry_run else ''}, {seconds:.1f} s")
    table.add_row("source", f"{report.documents:,} documents, {report.passages:,} passages")
    table.add_row("samples", _counted(report.samples))
    if any(report.pairs.values()):
        table.add_row("pairs", _counted(report.pairs))
        _bias(table, report)
    if report.styles:
        table.add_row("asked by", _counted(report.styles))
    table.add_row("refused", _counted(report.refusals))
    if report.masked:
        table.add_row("masked", _counted(report.masked))
    if report.estimate is not None:
        for name, prompt in report.estimate.examples.items():
            _line(console, f"prompt {name}:\n{prompt}\n")
        asked = report.estimate
        table.add_row("teacher", f"{asked.prompts:,} calls to make, {asked.replayed:,} in the journal")
        table.add_row("tokens", f"about {asked.prompt_tokens:,} read, {asked.completion_tokens:,} written")
        table.add_row("cost", f"about {asked.likely:.2f}, at most {asked.most:.2f}")
    for name, spent in (("teacher", report.spent), ("models of pairs", report.spent_on_pairs)):
        if spent:
            table.add_row(name, ", ".join(f"{value:,.10g} {what.replace('_', ' ')}" for what, value in spent.items()))
    if report.stopped:
        table.add_row("stopped early", ", ".join(f"{who}: {reason}" for who, reason in report.stopped.items()))
    if report.audit is not None:
        table.add_row(
            "audit", f"{report.audit.leaks} leaks, {report.audit.repeated_instructions} repeated instructions"
        )
    if report.dropped:
        table.add_row("removed", f"{', '.join(report.dropped)}: held a withdrawn document")
    if report.folder:
        table.add_row("dataset", f"{report.folder} ({'new' if report.written else 'unchanged'})")
        table.add_row("artifact", f"{stored.artifact} ({'new' if stored.written else 'unchanged'})")
    if report.pushed:
        table.add_row("pushed", report.pushed)
    console.print(table)


def _bias(table: Table, report: Any) -> None:  # noqa: ANN401  # what the step returned
    """What tells chosen answers from rejected ones by their form, and what did before they were matched."""
    if report.chosen_longer is None:
        return
    before = report.bias_before
    was = f" ({before.chosen_longer:.0%} as written)" if before else ""
    table.add_row("chosen longer", f"{report.chosen_longer:.0%}{was}")
    for kind, (chosen, rejected) in report.formats.items():
        written = before.formats.get(kind, (0.0, 0.0))[1] if before else 0.0
        if chosen or rejected or written:
            was = f" ({written:.0%} as written)" if before else ""
            table.add_row(f"  with {kind}", f"{chosen:.0%} of the chosen, {rejected:.0%} of the rejected{was}")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def _table(title: str) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    return table


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _training(console: Console, reports: Reports, seconds: float) -> None:
    table = _table(f"training pipeline, {seconds:.1f} s")
    made, pairs = reports["build_dataset"], reports["pair_up"]
    table.add_row("dataset", f"{made.folder} ({_counted(made.samples)})")
    table.add_row("pairs", _counted(pairs.pairs))
    table.add_row("sft", "\n".join(reports["train_sft"].lines()))
    preferred = reports["train_dpo"]
    left_out = "left out: no preference pairs to learn from and to measure by"
    table.add_row("dpo", left_out if preferred.stage == "sft" else "\n".join(preferred.lines()))
    kept = reports["keep_twin"]
    table.add_row("kept", f"{kept.model} ({kept.stage}){', kept before' if kept.known else ''}")
    if kept.gate:
        table.add_row("gate", "\n".join(kept.gate))
    if kept.report:
        table.add_row("report", kept.report)
    table.add_row("next", f"LLM_MODEL=twin:{kept.model} .venv/bin/poe serve")
    console.print(table)
