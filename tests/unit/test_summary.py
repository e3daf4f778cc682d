"""What a person reads at the end of a run."""

import json
from contextlib import nullcontext
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from inline_snapshot import snapshot
from rich.console import Console

from llm_engineering.crawl.report import CrawlReport, LinkLine
from llm_engineering.dataset.bias import Bias
from llm_engineering.domain.entities import LinkOutcome
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ports import RestoreReport
from llm_engineering.features.sync import SyncReport
from steps.dataset import DatasetArtifact, DatasetReport
from tools.summary import MOST_LINES, as_json, print_summary, require_success

SYNCED = SyncReport(documents=2, removed=1, chunks=12, embedded=7, reused=5, retired=4, seconds={"embed": 1.8})
STORED = SimpleNamespace(artifact="cleaned_documents:3", documents=22, written=True)


def line(outcome: LinkOutcome, name: str, reason: str = "", detail: str = "") -> LinkLine:
    return LinkLine(source="s", url=f"https://ada.example/{name}", outcome=outcome, reason=reason, detail=detail)


def reports(*lines: LinkLine) -> dict[str, Any]:
    return {"crawl_sources": CrawlReport.of(lines, seconds=1.1), "sync_index": SYNCED, "store_features": STORED}


def read(given: dict[str, Any]) -> str:
    out = StringIO()
    print_summary("feature", given, seconds=8.0, console=Console(file=out, width=80))
    return "\n".join(text.rstrip() for text in out.getvalue().splitlines())


def test_a_run_ends_with_what_it_did_and_where_the_time_went():
    assert read(
        reports(
            line(LinkOutcome.STORED, "new"),
            line(LinkOutcome.REFUSED, "tag/x", "listing-page", "listing-page: tag"),
            line(LinkOutcome.FAILED, "slow", "timeout", "https://ada.example/slow took too long"),
            line(LinkOutcome.GONE, "old", detail="no longer in the sitemap"),
        )
    ) == snapshot("""\
  failed  https://ada.example/slow  took too long
    gone  https://ada.example/old  no longer in the sitemap
feature pipeline, 8.0 s
┌───────────┬─────────────────────────────────────────────────┐
│ links     │ 1 stored, 1 gone, 1 refused, 1 failed           │
│ reasons   │ 1 listing-page, 1 timeout                       │
│ documents │ 2 indexed, 1 removed, 22 in the corpus          │
│ chunks    │ 12 published, 4 retired                         │
│ vectors   │ 7 embedded, 5 reused                            │
│ cleaned   │ cleaned_documents:3 (new)                       │
│ seconds   │ crawl 1.1, embed 1.8, start and bookkeeping 5.1 │
└───────────┴─────────────────────────────────────────────────┘\
""")


def test_a_link_that_is_refused_by_routine_is_counted_and_spared_its_line():
    shown = read(reports(line(LinkOutcome.REFUSED, "tag/x", "listing-page"), line(LinkOutcome.STORED, "new")))
    assert "tag/x" not in shown and "1 listing-page" in shown


def test_a_long_list_of_troubles_says_how_many_more_there_are():
    shown = read(reports(*(line(LinkOutcome.FAILED, f"{number}", "dns") for number in range(MOST_LINES + 7))))
    assert "7 more lines, which --json has" in shown and shown.count("  failed  ") == MOST_LINES


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "the sources are empty"),
        ((line(LinkOutcome.FAILED, "x"), line(LinkOutcome.MISSING, "y")), "1 missing, 1 failed"),
    ],
)
def test_a_crawl_that_read_nothing_is_an_error_that_says_so(lines: tuple[LinkLine, ...], words: str):
    with pytest.raises(SourceError, match=words):
        require_success(reports(*lines))


def test_programs_get_every_line():
    given = {"crawl_sources": CrawlReport.of([line(LinkOutcome.REFUSED, "tag/x", "listing-page")], seconds=0)}
    assert json.loads(as_json(given))["crawl_sources"]["lines"][0]["url"] == "https://ada.example/tag/x"


def test_a_build_of_pairs_says_what_they_cost_what_stopped_and_how_their_sides_differ():
    report = DatasetReport(
        name="twin",
        version="v",
        folder="f",
        documents=3,
        passages=9,
        samples={"train": 9},
        pairs={"train": 8},
        chosen_longer=0.5,
        formats={"lists": (0.1, 0.2), "bold": (0.0, 0.0)},
        bias_before=Bias(pairs=8, chosen_longer=0.125, formats={"lists": (0.1, 0.9), "bold": (0.0, 0.0)}),
        spent_on_pairs={"calls": 8, "money": 0.25},
        stopped={"pairs": "budget"},
    )
    shown = read({"build_dataset": report, "store_dataset": DatasetArtifact(artifact="dataset_twin:1")})
    assert [" ".join(line.strip("│ ").split()) for line in shown.splitlines()[4:10]] == snapshot(
        [
            "pairs │ 8 train",
            "chosen longer │ 50% (12% as written)",
            "with lists │ 10% of the chosen, 20% of the rejected (90% as written)",
            "refused │ none",
            "models of pairs │ 8 calls, 0.25 money",
            "stopped early │ pairs: budget",
        ]
    )


@pytest.mark.parametrize(
    ("imported", "fails"),
    [
        (RestoreReport(refused=("line 2: no document", "line 3: no document")), True),
        (RestoreReport(present=1, refused=("line 2: no document",)), False),
        (RestoreReport(), False),
    ],
)
def test_an_import_fails_only_if_every_entry_was_refused(imported: RestoreReport, fails: bool):
    with pytest.raises(SourceError, match="all 2 entries were refused") if fails else nullcontext():
        require_success({"import_documents": imported, "sync_index": SYNCED, "store_features": STORED})
