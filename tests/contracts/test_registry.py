"""The promises of the port Registry, kept by the folder."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_engineering.adapters.registry_folder import FolderRegistry
from llm_engineering.domain.errors import StoreError, StoreUnavailable, UsageError
from llm_engineering.domain.ports import Registry
from llm_engineering.domain.registry import Lineage, ModelStage, Reference

ROOT = Path(__file__).resolve().parents[2]
CANDIDATE, CURRENT, RETIRED = ModelStage
Open = Callable[[], Registry]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    return lambda: FolderRegistry(tmp_path / "registry")


@pytest.fixture
def registry(opened: Open) -> Registry:
    return opened()


def a_folder(place: Path, weights: str = "weights") -> Path:
    (place / "adapter").mkdir(parents=True)
    (place / "adapter" / "adapter_model.safetensors").write_text(weights)
    (place / "recipe.yaml").write_text("model: base\n")
    return place


def lineage(*documents: str, dataset: str = "v1") -> Lineage:
    return Lineage(
        base="base", base_digest="b", dataset="datasets/ann", dataset_version=dataset, document_ids=documents,
        trained=("sft",), prompt_version=1,
    )  # fmt: skip


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> Registry:
    """Three versions of one name, the second of which is current."""
    for number in (1, 2, 3):
        registry.register(
            a_folder(tmp_path / f"run{number}", f"w{number}"), name="ann", lineage=lineage("d1", f"d{number}")
        )
    registry.promote("ann@1")
    registry.promote("ann@2")
    return registry


def stages(registry: Registry) -> list[ModelStage]:
    return [model.stage for model in registry.versions("ann")]


def test_an_empty_registry_holds_nothing(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.saw(["d1"]) == []


def test_a_version_is_found_with_its_files_lineage_and_metrics(opened: Open, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "run")
    kept = opened().register(folder, name="ann", lineage=lineage("d1"), metrics={"perplexity": 7.5})
    found = opened().find("ann@1")
    assert found == kept
    assert (found.stage, found.lineage, found.metrics) == (CANDIDATE, lineage("d1"), {"perplexity": 7.5})
    assert (opened().folder(found) / "recipe.yaml").read_text() == "model: base\n"
    assert [file.path for file in found.files] == ["adapter/adapter_model.safetensors", "recipe.yaml"]


def test_the_kept_files_are_a_copy(registry: Registry, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "run")
    kept = registry.register(folder, name="ann", lineage=lineage())
    (folder / "adapter" / "adapter_model.safetensors").write_text("other ")
    assert (registry.folder(kept) / "adapter" / "adapter_model.safetensors").read_text() == "weights"


def test_the_same_weights_with_the_same_lineage_are_the_version_that_is_there(
    registry: Registry, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path / "run")
    one = registry.register(folder, name="ann", lineage=lineage())
    assert registry.register(folder, name="ann", lineage=lineage()) == one
    assert registry.register(folder, name="ann", lineage=lineage(dataset="v2")).version == 2
    assert registry.register(folder, name="bob", lineage=lineage()).version == 1
    assert [model.reference for model in registry.versions()] == ["ann@1", "ann@2", "bob@1"]


def test_promoting_a_version_retires_the_current_one(three: Registry) -> None:
    assert stages(three) == [RETIRED, CURRENT, CANDIDATE]
    assert three.promote("ann@3").stage is CURRENT
    assert stages(three) == [RETIRED, RETIRED, CURRENT]
    assert three.find("ann").version == three.find("twin:ann").version == three.find("twin:current").version == 3


def test_rolling_back_brings_the_version_before_and_forth_again(three: Registry) -> None:
    assert [three.rollback("ann").version for _ in range(2)] == [1, 2]
    three.retire("ann@2")
    assert three.rollback("ann").version == 1


def test_a_name_whose_first_version_is_current_cannot_go_back(registry: Registry, tmp_path: Path) -> None:
    registry.register(a_folder(tmp_path / "run"), name="ann", lineage=lineage())
    registry.promote("ann@1")
    with pytest.raises(UsageError, match="No other version of ann was ever current"):
        registry.rollback("ann")


def test_a_retired_version_is_current_no_more(three: Registry) -> None:
    assert three.retire("ann@2").stage is RETIRED
    with pytest.raises(UsageError, match="No version of ann is current"):
        three.find("ann")
    with pytest.raises(UsageError, match="is current"):
        three.find("current")


def test_erasing_leaves_the_record_alone_and_its_number_taken(three: Registry, tmp_path: Path) -> None:
    place = three.folder(three.find("ann@3"))
    erased = three.retire("ann@3", erase=True)
    assert (erased.stage, erased.erased, erased.lineage) == (RETIRED, True, lineage("d1", "d3"))
    assert not list(place.rglob("*.safetensors"))
    for act in (lambda: three.folder(erased), lambda: three.promote("ann@3")):
        with pytest.raises(StoreError, match="ann@3 were erased"):
            act()
    assert three.register(tmp_path / "run3", name="ann", lineage=lineage("d1", "d3")).version == 4


def test_what_saw_a_document_is_named_until_it_is_erased(three: Registry) -> None:
    assert [model.reference for model in three.saw(["d1"])] == ["ann@1", "ann@2", "ann@3"]
    assert [model.reference for model in three.saw(["d2", "d3", "unknown"])] == ["ann@2", "ann@3"]
    three.retire("ann@2", erase=True)
    assert [model.reference for model in three.saw(["d2", "d3"])] == ["ann@3"]


def test_two_names_that_are_current_must_be_told_apart(three: Registry, tmp_path: Path) -> None:
    three.register(a_folder(tmp_path / "bob"), name="bob", lineage=lineage())
    three.promote("bob@1")
    with pytest.raises(UsageError, match="Several trained models are current: twin:ann, twin:bob"):
        three.find("current")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("bob", "no trained model bob"),
        ("bob@1", "no trained model bob"),
        ("ann@9", "no version 9 of ann, the newest is 3"),
        ("ann@0", "names no version"),
        ("ann@", "names no version"),
        ("current@1", "cannot be the name"),
        ("../ann@1", "cannot be the name"),
        ("", "cannot be the name"),
    ],
)
def test_a_reference_to_nothing_is_one_clear_line(three: Registry, reference: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        three.find(reference)
    assert refusal.value.hint


@pytest.mark.parametrize("name", ["", "Ann", "a b", "current", ".ann", "a" * 65, "../up", "ann@1"])
def test_a_name_that_is_none_is_refused(registry: Registry, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        registry.register(a_folder(tmp_path / "run"), name=name, lineage=lineage())


def test_promoting_needs_a_version(three: Registry) -> None:
    for act in (three.promote, three.retire):
        with pytest.raises(UsageError, match="names no version"):
            act("ann")


def test_a_folder_without_weights_is_refused_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, words in ((tmp_path / "empty", "no weights"), (tmp_path / "gone", "cannot be read")):
        with pytest.raises(UsageError, match=words):
            registry.register(folder, name="ann", lineage=lineage())
    assert registry.versions() == []


def test_a_version_whose_files_are_gone_is_neither_opened_nor_promoted(three: Registry) -> None:
    broken = three.find("ann@3")
    (three.folder(broken) / "adapter" / "adapter_model.safetensors").unlink()
    for act in (lambda: three.folder(broken), lambda: three.promote("ann@3")):
        with pytest.raises(StoreError, match=r"A file of ann@3 is gone: .*adapter_model.safetensors") as failure:
            act()
        assert "poe models rollback ann" in failure.value.hint
    assert stages(three) == [RETIRED, CURRENT, CANDIDATE]


def test_a_file_that_was_cut_short_is_seen(three: Registry) -> None:
    model = three.find("ann@2")
    (three.folder(model) / "recipe.yaml").write_text("")
    with pytest.raises(StoreError, match="has changed"):
        three.folder(model)


def test_reading_a_reference_knows_its_parts() -> None:
    assert [tuple(Reference.parse(text)) for text in ("twin:current", "twin:ann", "ann@12")] == [
        (None, None), ("ann", None), ("ann", 12),
    ]  # fmt: skip


def test_a_damaged_record_is_named(three: Registry, tmp_path: Path) -> None:
    (tmp_path / "registry" / "ann" / "2" / "model.json").write_text("{")
    with pytest.raises(StoreError, match="record of ann@2 is gone or damaged"):
        three.versions()


def test_damaged_stages_are_named(three: Registry, tmp_path: Path) -> None:
    (tmp_path / "registry" / "ann" / "stages.json").write_text("[]")
    with pytest.raises(StoreError, match="stages of ann cannot be read"):
        three.find("ann")


def test_a_full_disk_leaves_no_half_version(three: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llm_engineering.adapters.registry_folder.shutil.copytree", full)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        three.register(a_folder(tmp_path / "more", "w4"), name="ann", lineage=lineage())
    assert sorted(path.name for path in (tmp_path / "registry" / "ann").iterdir()) == [
        "1",
        "2",
        "3",
        "lock",
        "stages.json",
    ]


def start(root: Path, folder: Path, number: int, ending: str) -> "subprocess.Popen[str]":
    module = "tests.contracts.registering_process"
    return subprocess.Popen(
        [sys.executable, "-m", module, str(root), str(folder), str(number), ending],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_several_processes_never_share_a_number_and_leave_one_current(registry: Registry, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "run")
    running = [start(tmp_path / "registry", folder, number, "live") for number in range(3)]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert sorted(int(line) for out, _ in said for line in out.split()) == list(range(1, 10))
    assert sorted(stages(registry)) == [CURRENT, *[RETIRED] * 8]


def test_a_killed_process_leaves_nothing_that_counts(three: Registry, tmp_path: Path) -> None:
    process = start(tmp_path / "registry", a_folder(tmp_path / "run9", "w9"), 9, "kill")
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "registry" / "ann" / ".unfinished").is_dir()
    assert stages(three) == [RETIRED, CURRENT, CANDIDATE]
    assert three.register(tmp_path / "run9", name="ann", lineage=lineage()).version == 4
    assert not (tmp_path / "registry" / "ann" / ".unfinished").exists()


def test_tidying_removes_what_a_killed_process_left_and_nothing_else(three: Registry, tmp_path: Path) -> None:
    before = stages(three)
    start(tmp_path / "registry", a_folder(tmp_path / "run9", "w9"), 9, "kill").communicate(timeout=120)
    three.tidy()
    assert not list((tmp_path / "registry").rglob(".unfinished"))
    assert stages(three) == before and three.folder(three.find("ann@3"))
