"""From the sample corpus to a promoted twin by one command: the tiny recipe, with nothing downloaded."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llm_engineering import bootstrap
from llm_engineering.crawl.run import crawl
from llm_engineering.domain.config import FeatureConfig
from llm_engineering.settings import Settings
from tools.entry import load_config

MOST_SECONDS, MOST_BYTES = 600, 6e9


def main() -> int:
    """Print the table; exit status 1 if it has not learnt, is not promoted, or takes more time or memory than it may."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _fill(home)
        started = time.perf_counter()
        reports = _trained(home)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        started = time.perf_counter()
        _trained(home)
        again = time.perf_counter() - started
        found = _figures(Path(reports["keep_twin"]["report"]))
    sft, dpo, kept = reports["train_sft"], reports["train_dpo"], reports["keep_twin"]
    measures = kept["measures"]
    answers = "perplexity, answers to instructions"
    base, style = (
        "reward {} against the base, {} DPO",
        "twin against author, by character n-grams, content words masked",
    )
    print("## A tiny twin from the sample corpus\n")
    print("| | before | after |\n|---|---:|---:|")
    for name, before, after in (
        ("SFT: perplexity on the validation split", sft["before"]["perplexity"], sft["after"]["perplexity"]),
        ("SFT: perplexity of answers, test split", found[f"{answers} (base)"], found[f"{answers} (sft)"]),
        ("DPO: reward accuracy, validation pairs", dpo["before"]["accuracy"], dpo["after"]["accuracy"]),
        ("DPO: reward margin, validation pairs", dpo["before"]["margin"], dpo["after"]["margin"]),
        *(
            (f"DPO: reward {what} against the base, test pairs",
             found[base.format(what, "before")], found[base.format(what, "after")])
            for what in ("accuracy", "margin")
        ),
        ("twin: bits per character of the test split, against the base", measures["base_bits"], measures["bits"]),
    ):  # fmt: skip
        print(f"| {name} | {before:.3f} | {after:.3f} |")
    print("\n| | |\n|---|---:|")
    print(
        f"| samples, pairs | {_counts(reports['build_dataset']['samples'])}; {_counts(reports['pair_up']['pairs'])} |"
    )
    print(f"| whole pipeline | {seconds:.0f} s (at most {MOST_SECONDS}) |")
    print(f"| peak memory | {peak / 1e9:.1f} GB (at most {MOST_BYTES / 1e9:.0f}) |")
    print(f"| the same again, nothing to do | {again:.0f} s |")
    accuracy = found["reward accuracy"]
    print(f"| reward accuracy of the twin against SFT, test pairs (0.5 before DPO) | {accuracy:.3f} |")
    print(f"| style: AUC of telling twin from author, content words masked | {found.get(style, float('nan')):.3f} |")
    print(f"| in the registry | {kept['model']}, {kept['stage']} |")
    print("\nThe promotion gate:\n")
    for line in kept["gate"]:
        print(f"- {line}")
    learnt = found[f"{answers} (sft)"] < found[f"{answers} (base)"] and accuracy > 0.5
    return int(kept["stage"] != "current" or not learnt or seconds > MOST_SECONDS or peak > MOST_BYTES)


def _figures(folder: Path) -> dict[str, float]:
    """Means of an evaluation's report by name; of several parts that have one name, the first one's."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    figures = [figure for part in report["parts"] for figure in part["figures"] if figure["interval"]]
    return {figure["name"]: figure["interval"]["mean"] for figure in reversed(figures)}


def _fill(home: Path) -> None:
    """The sample corpus into a warehouse."""
    settings = Settings(twin_home=home, _env_file=None)  # type: ignore[call-arg]  # of pydantic-settings
    config = load_config(Path("configs/feature.yaml"), FeatureConfig)
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_fetcher(settings, config.crawl) as fetcher:
        crawl(
            config.sources,
            author=config.author,
            config=config.crawl,
            warehouse=warehouse,
            fetcher=fetcher,
            repositories=bootstrap.open_repositories(settings, fetcher),
        )


def _trained(home: Path) -> dict[str, dict]:
    command = [sys.executable, "-m", "tools.run", "training", "--config", "configs/training/tiny.yaml", "--json"]
    environment = {**os.environ, "TWIN_HOME": str(home), "LLM_MODEL": "offline"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
