"""Judging a model in a folder, from its record to the report and the pairs for people; the weights are random."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from llm_engineering import bootstrap
from llm_engineering.domain.blind import BlindChoice
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import Registry
from llm_engineering.domain.registry import Lineage
from llm_engineering.domain.samples import Split
from llm_engineering.domain.twin_evaluation_config import GateConfig, StyleConfig, TwinEvaluationConfig
from llm_engineering.evaluation.human import NAME as PEOPLE
from llm_engineering.evaluation.preference import NAME as PREFERENCE
from llm_engineering.settings import load_settings
from llm_engineering.training.hardware import detect
from llm_engineering.training.provenance import RECORD, Provenance, folder_digest
from steps.candidate import find_candidate
from steps.twin_evaluation import Judgement, judge_and_write, judge_twin, known_figures
from tests.doubles.tiny_chat import make_tiny_model
from tests.unit.evaluation.trained import pair, sample, write_dataset
from tests.unit.evaluation.writers import writer

CONFIG = EvaluationConfig(
    resamples=100,
    twin=TwinEvaluationConfig(sampling=Sampling(temperature=0.0, max_tokens=200), style=StyleConfig(words=20, folds=2)),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage whose weights and base are the same random ones."""
    home = tmp_path_factory.mktemp("runs")
    train = [sample(text, "Ada") for text in writer("ada", prefix="known", documents=4)]
    test = [sample(text, "Ada") for text in writer("ada", seed=1, prefix="held", documents=4)]
    dataset = write_dataset(home / "v1", {Split.TRAIN: train, Split.TEST: test}, pairs=[pair(test[0], "worse")])
    folder = home / "me" / "sft"
    make_tiny_model(folder)
    record = Provenance(
        stage="sft", identity="i", base=str(folder), base_digest="b", dataset=str(dataset), dataset_version="v1", seed=0,
        engine="transformers", precision="float32", hardware=detect(),
    )  # fmt: skip
    (folder / RECORD).write_text(json.dumps({"provenance": record.model_dump(mode="json")}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def judged(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Judgement, Path]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIN_HOME", str(home))
        patch.setenv("LLM_MODEL", "offline")
        return judge_twin(CONFIG, str(run)), home


def test_a_model_that_equals_its_base_is_as_good_as_its_base(judged: tuple[Judgement, Path]) -> None:
    found = judged[0].measured
    assert found.bits is not None and found.bits == pytest.approx(found.base_bits)
    accuracy = [
        figure.interval.mean
        for part in judged[0].found.parts
        for figure in part.figures
        if figure.name == "reward accuracy" and figure.interval
    ]
    assert accuracy == [0.5]


def test_what_was_never_exported_is_not_promoted_and_the_report_says_so(judged: tuple[Judgement, Path]) -> None:
    verdict = judged[0].promotion
    assert not verdict.passed
    assert "parity" in [check.name for check in verdict.checks if not check.passed]
    gate = judged[0].found.parts[-1]
    assert "FAILED: parity: not measured" in gate.findings["May not be promoted"]


def test_without_a_model_to_ask_the_judge_is_skipped_with_a_word(judged: tuple[Judgement, Path]) -> None:
    missing = {part.name: part.missing for part in judged[0].found.parts}
    assert "no chat model is configured" in missing["Judge"]


def test_pairs_for_people_wait_in_the_service(judged: tuple[Judgement, Path]) -> None:
    pairs = bootstrap.open_blind_pairs(load_settings(twin_home=judged[1])).pairs()
    assert {one.model for one in pairs} == {"me-sft"}
    assert all(one.document_ids[0].startswith("held-") for one in pairs)


def test_a_folder_without_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match="no finished run or export"):
        judge_twin(CONFIG, str(tmp_path))


@pytest.fixture
def registered(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where ``twin@1`` is registered, which began with the SFT run of another folder of runs."""
    home = tmp_path / "home"
    monkeypatch.setenv("TWIN_HOME", str(home))
    monkeypatch.setenv("LLM_MODEL", "offline")
    first = home / "training" / "another" / "sft"
    shutil.copytree(run, first)
    (first / "adapter").mkdir()
    (first / "adapter" / "adapter_config.json").write_text('{"r": 4}', encoding="utf-8")
    release = tmp_path / "release"
    shutil.copytree(run, release)
    record = json.loads((run / RECORD).read_text())["provenance"]
    record |= {"stage": "dpo", "started_from": folder_digest(first / "adapter")}
    (release / RECORD).write_text(json.dumps({"provenance": record}), encoding="utf-8")
    lineage = Lineage(
        base=record["base"], base_digest="b", dataset=record["dataset"], dataset_version="v1", document_ids=("known-0",),
        trained=("sft", "dpo"), prompt_version=1,
    )  # fmt: skip
    bootstrap.open_registry(load_settings()).register(release, name="twin", lineage=lineage)
    return home


def test_a_registered_version_is_judged_beside_the_sft_run_that_it_began_with(registered: Path) -> None:
    found = judge_twin(CONFIG, "twin@1").found
    assert (found.facts["model"], found.facts["stages"]) == ("twin@1", "base, sft, twin")
    notes = {part.name: " ".join(part.notes) for part in found.parts}
    assert "Reference: sft" in notes[PREFERENCE]


def test_a_version_whose_sft_run_is_gone_is_judged_without_it_and_the_report_says_so(registered: Path) -> None:
    shutil.rmtree(registered / "training")
    found = judge_twin(CONFIG, "twin@1").found
    assert found.facts["stages"] == "base, twin"
    assert "is gone" in found.facts["sft"]


@pytest.mark.parametrize(
    ("digest", "commit", "revision"),
    [
        ("org/base@5f0b02c", None, "5f0b02c"),
        ("org/base@main", None, "main"),
        ("org/base@main", "5f0b02c", "5f0b02c"),
        ("a1b2c3", None, None),
    ],
)
def test_the_base_is_judged_at_the_revision_that_was_trained_on(
    run: Path, tmp_path: Path, digest: str, commit: str | None, revision: str | None
) -> None:
    record = json.loads((run / RECORD).read_text())["provenance"]
    record |= {"base": "org/base", "base_digest": digest, "base_commit": commit}
    (tmp_path / RECORD).write_text(json.dumps({"provenance": record}), encoding="utf-8")
    assert find_candidate(str(tmp_path), load_settings(twin_home=tmp_path / "home")).revision == revision


def test_what_people_chose_before_a_version_was_registered_counts_when_it_is_judged_again(
    registered: Path, run: Path
) -> None:
    assert judge_twin(CONFIG, str(run), name="twin").found.facts["model"] == "twin@2"
    blind = bootstrap.open_blind_pairs(load_settings())
    shown = [one.id for one in blind.pairs() if one.model == "twin@2"]
    blind.choose(BlindChoice(pair_id=shown[0], model="twin@2", judge="me", taken="twin"))
    registry = bootstrap.open_registry(load_settings())
    lineage = registry.find("twin@1").lineage.model_copy(update={"trained": ("sft",)})
    assert registry.register(run, name="twin", lineage=lineage).reference == "twin@2"
    people = next(part for part in judge_twin(CONFIG, "twin@2").found.parts if part.name == PEOPLE)
    assert people.counts["choices"] == 1
    assert [one.id for one in blind.pairs() if one.model == "twin@2"] == shown


def test_a_version_whose_own_base_is_gone_is_refused_before_anything_is_read(registered: Path, run: Path) -> None:
    moved = run.rename(run.with_name("moved"))
    try:
        with pytest.raises(UsageError, match="on which twin@1 was trained, is not there"):
            judge_twin(CONFIG, "twin@1")
    finally:
        moved.rename(run)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty home's."""
    monkeypatch.setenv("TWIN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLM_MODEL", "offline")
    return bootstrap.open_registry(load_settings())


@pytest.fixture
def promoted(run: Path, tmp_path: Path, registry: Registry) -> Registry:
    """A home where ``twin@1`` was registered without being judged, and promoted; the run that follows has other weights."""
    first = tmp_path / "first"
    shutil.copytree(run, first)
    weights = load_file(first / "model.safetensors")
    save_file({name: value * 1.1 for name, value in weights.items()}, first / "model.safetensors", {"format": "pt"})
    registry.register(first, name="twin", lineage=lineage(run))
    registry.promote("twin@1")
    return registry


def lineage(run: Path, *documents: str) -> Lineage:
    record = json.loads((run / RECORD).read_text())["provenance"]
    return Lineage(
        base=record["base"], base_digest="b", dataset=record["dataset"], dataset_version="v1",
        document_ids=documents or ("known-0",), trained=("sft",), prompt_version=1,
    )  # fmt: skip


def test_the_current_twin_reads_and_answers_what_the_candidate_does(promoted: Registry, run: Path) -> None:
    judgement = judge_twin(CONFIG, str(run), name="twin")
    figures = judgement.measured
    assert (judgement.found.facts["stages"], judgement.found.facts["current"]) == ("base, current, twin", "twin@1")
    assert figures.bits == pytest.approx(figures.base_bits) and figures.current_bits != pytest.approx(figures.bits)
    assert figures.style is not None and figures.current_style is not None
    told = {check.name: check.told for check in judgement.promotion.checks}
    assert "that of twin@1" in told["held-out perplexity"] and "that of twin@1" in told["style"]


def test_documents_that_either_twin_was_trained_on_are_not_held_out(promoted: Registry, run: Path) -> None:
    promoted.register(run, name="twin", lineage=lineage(run, "held-0"))
    found = judge_twin(CONFIG, "twin@2").found
    assert found.facts["held-out instructions"] == "3"
    other = promoted.register(run, name="other", lineage=lineage(run, "held-0", "held-1"))
    promoted.promote(other.reference)
    assert judge_twin(CONFIG, str(run), name="other").found.facts["held-out instructions"] == "2"


def test_a_current_twin_that_has_seen_every_held_out_document_is_compared_with_nobody(
    run: Path, registry: Registry
) -> None:
    registry.register(run, name="twin", lineage=lineage(run, *(f"held-{number}" for number in range(4))))
    registry.promote("twin@1")
    judgement = judge_twin(CONFIG, str(run), name="twin")
    assert "was trained on every held-out document" in judgement.found.facts["current"]
    failed = [check.name for check in judgement.promotion.checks if not check.passed]
    assert "held-out perplexity" in failed and "style" in failed


def test_figures_are_known_until_another_twin_is_current(promoted: Registry, run: Path, tmp_path: Path) -> None:
    """Weights that were no better than one twin are judged again before they replace another."""
    out = tmp_path / "out"
    second = promoted.register(run, name="twin", lineage=lineage(run))
    assert known_figures(CONFIG, second.reference, author=None, out=out) is None  # registered, never judged
    judged = judge_and_write(CONFIG, second.reference, author=None, out=out)
    assert known_figures(CONFIG, second.reference, author=None, out=out) == judged
    stricter = CONFIG.twin.model_copy(update={"gate": GateConfig(longest_run=1, usable_share=0)})
    known = known_figures(CONFIG.model_copy(update={"twin": stricter}), second.reference, author=None, out=out)
    assert known is not None and known[0] == judged[0] and known[1] != judged[1]
    third = tmp_path / "third"
    shutil.copytree(run, third)
    weights = load_file(third / "model.safetensors")
    save_file({name: value * 0.5 for name, value in weights.items()}, third / "model.safetensors", {"format": "pt"})
    promoted.promote(promoted.register(third, name="twin", lineage=lineage(run)).reference)
    assert known_figures(CONFIG, second.reference, author=None, out=out) is None
    again = judge_and_write(CONFIG, second.reference, author=None, out=out)
    assert again[0].bits == pytest.approx(judged[0].bits) and again[0].current_bits != judged[0].current_bits
    assert "that of twin@3" in again[1].lines()[1]


def test_what_a_model_has_seen_is_what_every_stage_has_seen(registered: Path, run: Path, tmp_path: Path) -> None:
    """DPO on another dataset than SFT's: neither's documents are held out, and both texts are training text."""
    text = sample(writer("ada", prefix="preferred", documents=1)[0], "Ada")
    second = write_dataset(tmp_path / "v2", {Split.TRAIN: [text]})
    start = registered / "training" / "another" / "sft"
    stage = start.with_name("dpo")
    stage.mkdir()
    record = json.loads((run / RECORD).read_text())["provenance"]
    record |= {"stage": "dpo", "started_from": folder_digest(start / "adapter"), "dataset": str(second)}
    (stage / RECORD).write_text(json.dumps({"provenance": record}), encoding="utf-8")
    candidate = find_candidate(str(stage), load_settings())
    assert candidate.trained_on == (second, run.parent.parent / "v1")
    assert candidate.seen == {"preferred-0", *(f"known-{number}" for number in range(4))}
    shutil.rmtree(second)
    with pytest.raises(UsageError, match="nobody can say which documents are held out"):
        find_candidate(str(stage), load_settings())
