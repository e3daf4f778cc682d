"""From the sources to the warehouse."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.crawl.report import CrawlReport
from llm_engineering.crawl.run import crawl
from llm_engineering.crawl.transfer import import_from
from llm_engineering.domain.config import FeatureConfig
from llm_engineering.domain.ports import RestoreReport
from llm_engineering.settings import load_settings
from steps.progress import bar


@step(enable_cache=False)
def crawl_sources(config: FeatureConfig) -> Annotated[CrawlReport, "crawl_report"]:
    """Read every source of the configuration; one line per link in the report."""
    settings = load_settings()
    bootstrap.prepare_home(settings)
    with ExitStack() as open_until_done:
        warehouse = open_until_done.enter_context(bootstrap.open_warehouse(settings))
        fetcher = open_until_done.enter_context(bootstrap.open_fetcher(settings, config.crawl))
        progress = open_until_done.enter_context(bar("crawl"))
        report = crawl(
            config.sources,
            author=config.author,
            config=config.crawl,
            warehouse=warehouse,
            fetcher=fetcher,
            repositories=bootstrap.open_repositories(settings, fetcher),
            browser=lambda: open_until_done.enter_context(bootstrap.open_browser(settings, config.crawl)),
            progress=lambda line: progress.advance(line.url),
        )
    log_metadata(metadata={"totals": report.totals, "seconds": report.seconds}, infer_artifact=True)
    return report


@step(enable_cache=False)
def import_documents(path: str) -> Annotated[RestoreReport, "import_report"]:
    """Read an export: JSON lines of this product, or the Handbook's folder."""
    settings = load_settings()
    bootstrap.prepare_home(settings)
    with bootstrap.open_warehouse(settings) as warehouse:
        report = import_from(warehouse, Path(path))
    log_metadata(metadata={"written": report.written, "refused": len(report.refused)}, infer_artifact=True)
    return report
