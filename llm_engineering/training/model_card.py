"""The model card: what a model is, what it was made of, how it was measured, what it must not be used for."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from llm_engineering.training.parity import Parity
from llm_engineering.training.provenance import RECIPE, RECORD, Provenance
from llm_engineering.training.report import TrainingReport, read_report

_DATA_CARD = "README.md"


def model_card(name: str, *, run: Path, provenance: Provenance, parity: Parity, evaluation: Mapping[str, float]) -> str:
    """Markdown with the front matter of the Hugging Face Hub, from the run's record, the data card and the evaluation."""
    report = read_report(run)
    parts = (
        _front_matter(provenance),
        f"# {name}\n",
        "A language model that was fine-tuned to write like one author, from what that author wrote. It imitates a person: "
        "say so where its texts are shown, and use it only with that person's consent.\n",
        _made_of(provenance, report),
        _losses(report),
        _measured(evaluation),
        _parity(parity),
        "## Prompt\n",
        f"It was trained on version {provenance.prompt_version} of the wording in `llm_engineering/domain/chat.py` and "
        "should be asked in no other. It was not trained to cite: answers with sources come from the service, which "
        "verifies each claim and drops what it cannot.\n",
        f"## Recipe\n\n```yaml\n{(run / RECIPE).read_text(encoding='utf-8').strip()}\n```\n",
    )
    return "\n".join(part for part in parts if part)


def _front_matter(provenance: Provenance) -> str:
    local = Path(provenance.base).is_dir()
    content = {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "llm-twin", provenance.stage],
        **({} if local else {"base_model": provenance.base}),
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---\n"


def _made_of(provenance: Provenance, report: TrainingReport) -> str:
    data_card = Path(provenance.dataset) / _DATA_CARD
    hardware = provenance.hardware
    rows = {
        "base": f"{Path(provenance.base).name if Path(provenance.base).is_dir() else provenance.base} "
        f"(digest `{provenance.base_digest}`)",
        "stage": provenance.stage + (", begun with an SFT adapter" if provenance.started_from else ""),
        "dataset": f"{Path(provenance.dataset).name}, version `{provenance.dataset_version}`"
        + (", with a data card beside it" if data_card.is_file() else ""),
        "samples": ", ".join(f"{count} {split}" for split, count in report.samples.items()),
        "left out as too long": ", ".join(f"{count} {split}" for split, count in report.too_long.items()),
        "steps": f"{report.steps} (kept: {report.best_step})",
        "trained parameters": f"{report.trained_parameters:,}",
        "seed": provenance.seed,
        "engine": f"{provenance.engine}, {provenance.precision}, {provenance.processes} process(es)",
        "hardware": f"{hardware.device}: {hardware.name}",
        "time": f"{report.seconds:.0f} s",
        "code": provenance.git_commit or "not from a repository",
        "packages": ", ".join(f"{package} {version}" for package, version in provenance.packages.items()),
        "date": f"{provenance.at:%Y-%m-%d}",
    }
    return "## Made of\n\n| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())


def _losses(report: TrainingReport) -> str:
    lines = "".join(f"| {name} | {report.before[name]:.4f} | {report.after[name]:.4f} |\n" for name in report.after)
    return f"## On the validation split\n\n| | before | after |\n|---|---|---|\n{lines}" if lines else ""


def _measured(evaluation: Mapping[str, float]) -> str:
    if not evaluation:
        return "## Evaluation\n\nNot evaluated yet.\n"
    return "## Evaluation\n\n| measure | |\n|---|---|\n" + "".join(
        f"| {name} | {value:.4g} |\n" for name, value in evaluation.items()
    )


def _parity(parity: Parity) -> str:
    return "\n".join(_parity_lines(parity)) + "\n"


def _parity_lines(parity: Parity) -> Iterator[str]:
    allowed = parity.tolerances
    yield "## Parity\n"
    yield (
        f"Log-probabilities of the merged 16-bit model against the adapter on its base, over {parity.texts} texts, in nats "
        f"(allowed: {allowed.mean:g} in the mean, {allowed.largest:g} at most, a lead of {allowed.tie:g} counts as a tie). "
        f"The adapter itself changes them by {parity.effect:.3g}. The numbers are in `parity.json`, the run in `{RECORD}`.\n"
    )
    yield "| form | mean | largest | other choices | ties | tokens |\n|---|---|---|---|---|---|"
    for each in parity.comparisons:
        yield (
            f"| {each.form} | {each.mean:.2g} | {each.largest:.2g} | {each.other_choices} | {each.ties} | {each.tokens} |"
        )
