"""From a finished run to a release, whole or not at all."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from llm_engineering.domain.errors import ParityFailed, StoreUnavailable, TrainingError, UsageError
from llm_engineering.training.export import ExportReport, copy_release, export, read_parity
from llm_engineering.training.parity import Tolerances
from llm_engineering.training.provenance import files_digest, read_provenance
from llm_engineering.training.report import TrainingReport
from tests.doubles.tiny_adapter import retold
from tests.doubles.training import small_recipe

Trained = tuple[Path, TrainingReport]


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> tuple[Path, ExportReport]:
    """The release of the session's run; look, and copy before changing anything."""
    out = tmp_path_factory.mktemp("released") / "release"
    return out, export(trained[0] / "sft", out, name="ann", evaluation={"style auc": 0.71})


def a_program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that are called as llama.cpp's are, on a PATH of their own."""
    programs = tmp_path / "programs"
    programs.mkdir()
    a_program(programs, "convert_hf_to_gguf", 'test -f "$1/config.json" && printf "GGUF of $5" > "$3"')
    a_program(programs, "llama-quantize", 'printf "GGUF as $3" > "$2"')
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return programs


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "release" in path.name]


def test_a_release_holds_adapter_merged_model_record_and_card(released: tuple[Path, ExportReport]) -> None:
    out, report = released
    files = {path.relative_to(out).as_posix() for path in out.rglob("*")}
    assert {
        "adapter/adapter_model.safetensors", "merged/model.safetensors", "merged/tokenizer.json",
        "merged/chat_template.jinja", "recipe.yaml", "run.json", "parity.json", "README.md",
    } <= files  # fmt: skip
    assert report.bytes.keys() == {"adapter", "merged"}
    assert read_parity(out) == report.parity


def test_merged_weights_are_sixteen_bits_and_not_those_of_the_base(released: tuple[Path, ExportReport]) -> None:
    import torch
    from safetensors.torch import load_file

    out, report = released
    merged = load_file(out / "merged" / "model.safetensors")
    base = load_file(Path(report.base) / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    assert {weight.dtype for weight in merged.values()} == {torch.bfloat16}
    assert not torch.allclose(merged[name].float(), base[name].float(), atol=1e-2)


def test_both_forms_pass_the_gate_and_the_adapter_does_something(released: tuple[Path, ExportReport]) -> None:
    parity = released[1].parity
    merged, reloaded = parity.comparisons
    assert (merged.form, reloaded.form, merged.passed, reloaded.passed) == ("merged", "reloaded", True, True)
    assert merged.largest < 1e-4, "merging in full precision adds nothing but rounding"
    assert parity.effect > 5 * parity.tolerances.mean, "tolerances that a missing adapter would pass tell nothing"


def test_the_released_model_answers_like_the_adapter(released: tuple[Path, ExportReport]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llm_engineering.training.parity import continued
    from llm_engineering.training.render import encoded, messages, render

    out, report = released
    from peft import PeftModel

    tokenizer = AutoTokenizer.from_pretrained(out / "merged")
    prompt = encoded(
        tokenizer, render(tokenizer, messages("What colour is index 200?", author="Ada Winter"), "").prompt
    )
    merged = AutoModelForCausalLM.from_pretrained(out / "merged", dtype="float32")
    adapter = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(report.base), str(out / "adapter"))
    said = [continued(model, [prompt], tokens=12, end=3)[0].following for model in (merged, adapter)]
    assert said[0] == said[1]


def test_the_card_says_what_it_is_made_of_and_how_it_was_measured(released: tuple[Path, ExportReport]) -> None:
    card = (released[0] / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["tags"] == ["lora", "llm-twin", "sft"]
    assert "base_model" not in front, "a folder of this machine is no name"
    for words in ("# ann", "12 train, 4 validation", "| style auc | 0.71 |", "| reloaded |", "quantization: nf4"):
        assert words in card


def test_a_merge_that_changed_the_weights_releases_nothing(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel

    def forgetful(self: PeftModel, **_: object) -> object:
        return self.unload()  # type: ignore[operator]  # the base without what was learnt

    monkeypatch.setattr(PeftModel, "merge_and_unload", forgetful, raising=False)
    with pytest.raises(ParityFailed, match="The merged model is not the one that was trained"):
        export(trained[0] / "sft", tmp_path / "release")
    assert left_behind(tmp_path) == []


@pytest.fixture
def faint(trained: Trained, tmp_path: Path) -> Path:
    """The session's run with an adapter that does a hundredth of what it did."""
    from safetensors.torch import load_file, save_file

    run = Path(shutil.copytree(trained[0] / "sft", tmp_path / "faint"))
    file = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: weight * (0.01 if "lora_B" in name else 1) for name, weight in weights.items()}, file)
    return run


def test_a_faint_adapter_that_got_lost_is_missed_too(
    faint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel

    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(ParityFailed, match="The merged model is not") as failure:
        export(faint, tmp_path / "release")
    assert "too little to be told from weights that were rounded" in (failure.value.hint or "")
    assert left_behind(tmp_path) == []


def test_weights_that_were_saved_wrong_release_nothing(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedModel

    saved = PreTrainedModel.save_pretrained

    def noisy(self: PreTrainedModel, folder: Path, **more: object) -> None:
        import torch

        with torch.no_grad():
            self.get_input_embeddings().weight.add_(0.2 * torch.randn_like(self.get_input_embeddings().weight))
        saved(self, folder, **more)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", noisy)
    with pytest.raises(ParityFailed, match="The reloaded model is not"):
        export(trained[0] / "sft", tmp_path / "release")
    assert left_behind(tmp_path) == []


def test_tolerances_that_rounding_cannot_keep_are_refused(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ParityFailed, match=r"reloaded .*allowed: 1e-05 and 1e-05"):
        export(trained[0] / "sft", tmp_path / "release", tolerances=Tolerances(mean=1e-5, largest=1e-5))


def test_a_full_disk_releases_nothing(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llm_engineering.training.export.shutil.copytree", full)
    with pytest.raises(StoreUnavailable, match="The disk is full"):
        export(trained[0] / "sft", tmp_path / "release")
    assert left_behind(tmp_path) == []


def test_a_place_that_is_taken_is_left_alone(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        export(trained[0] / "sft", tmp_path / "release")


def test_a_run_that_is_not_finished_is_refused(trained: Trained, tmp_path: Path) -> None:
    half = Path(shutil.copytree(trained[0] / "sft", tmp_path / "half"))
    (half / "adapter" / "adapter_config.json").unlink()
    for run in (half, tmp_path / "gone"):
        with pytest.raises(UsageError, match="no finished run"):
            export(run, tmp_path / "release")


def test_a_base_that_moved_can_be_named_and_another_one_cannot(trained: Trained, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(trained[0] / "base", tmp_path / "moved"))
    run = Path(shutil.copytree(trained[0] / "sft", tmp_path / "run"))
    record = json.loads((run / "run.json").read_text())
    record["provenance"]["base"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="is not there"):
        export(run, tmp_path / "release")
    assert export(run, tmp_path / "release", base=str(moved)).base == str(moved)
    retold(moved, "config.json", rms_norm_eps=0.5)
    with pytest.raises(UsageError, match="is not the base that was trained on"):
        export(run, tmp_path / "other", base=str(moved))


@pytest.fixture
def cache(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local cache of the Hub, which holds the session's base as ``ann/base``; returns the folder of its files."""
    commit = "5f0b02c75b57c5855da9ae460ce51323ea669d8a"
    repository = tmp_path / "cache" / "models--ann--base"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(trained[0] / "base", repository / "snapshots" / commit))


@pytest.mark.filterwarnings("ignore:Could not find a config file in ann/base")  # PEFT does not look into the cache
def test_a_run_notes_the_files_of_a_base_with_a_name(cache: Path, dataset: Path, tmp_path: Path) -> None:
    from llm_engineering.training.sft import sft

    sft(small_recipe(model="ann/base", sft__max_steps=2), dataset=dataset, out=tmp_path / "named")
    record = read_provenance(tmp_path / "named" / "sft")
    assert record is not None
    assert (record.base_commit, record.base_files) == (cache.name, files_digest(cache))


@pytest.fixture
def of_a_name(trained: Trained, cache: Path, tmp_path: Path) -> Path:
    """The session's run, told to have been made on ``ann/base``."""
    run = Path(shutil.copytree(trained[0] / "sft", tmp_path / "named" / "sft"))
    record = json.loads((run / "run.json").read_text())
    record["provenance"] |= {"base": "ann/base", "base_digest": "ann/base@main"}
    record["provenance"] |= {"base_commit": cache.name, "base_files": files_digest(cache)}
    (run / "run.json").write_text(json.dumps(record))
    return run


def test_a_base_with_a_name_is_known_in_any_folder_by_its_files(of_a_name: Path, cache: Path, tmp_path: Path) -> None:
    assert export(of_a_name, tmp_path / "release").base == "ann/base"
    moved = Path(shutil.copytree(cache, tmp_path / "moved"))
    (moved / "preprocessor_config.json").write_text("{}")  # what a model does not read tells nothing
    shutil.rmtree(tmp_path / "cache")
    assert export(of_a_name, tmp_path / "other", base=str(moved)).base == str(moved)
    retold(moved, "config.json", rms_norm_eps=0.5)
    with pytest.raises(UsageError, match="is not the base that was trained on"):
        export(of_a_name, tmp_path / "third", base=str(moved))


def test_a_base_with_a_name_is_merged_at_the_commit_that_was_trained_on(of_a_name: Path, cache: Path) -> None:
    (cache.parents[1] / "refs" / "main").write_text("0" * 40)  # a newer one, which is not here
    assert export(of_a_name, of_a_name.parent / "release").base == "ann/base"


def test_a_base_that_cannot_be_downloaded_is_one_clear_line(of_a_name: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UsageError, match="The base ann/base cannot be loaded") as failure:
        export(of_a_name, tmp_path / "release")
    assert "licence" in (failure.value.hint or "") and "\n" not in failure.value.message


@pytest.mark.usefixtures("converter")
def test_gguf_variants_carry_their_names(released: tuple[Path, ExportReport], tmp_path: Path) -> None:
    sizes = copy_release(released[0], tmp_path / "release", name="ann", gguf=["q8_0", "q4_k_m", "q5_k_m"])
    files = sorted((tmp_path / "release" / "gguf").iterdir())
    assert {file.name: file.read_text() for file in files} == {
        "ann-q4_k_m.gguf": "GGUF as Q4_K_M", "ann-q5_k_m.gguf": "GGUF as Q5_K_M", "ann-q8_0.gguf": "GGUF of q8_0",
    }  # fmt: skip
    assert sizes.keys() == {"adapter", "merged", "gguf"}


def test_gguf_without_a_converter_says_what_to_install_before_any_work(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"no convert_hf_to_gguf.py on PATH.*llama.cpp"):
        export(trained[0] / "sft", tmp_path / "release", gguf=["q8_0"])
    assert left_behind(tmp_path) == []


def test_a_quantized_variant_without_its_program_is_refused(converter: Path, trained: Trained, tmp_path: Path) -> None:
    (converter / "llama-quantize").unlink()
    with pytest.raises(UsageError, match="q4_k_m takes llama-quantize"):
        export(trained[0] / "sft", tmp_path / "release", gguf=["q8_0", "q4_k_m"])


@pytest.mark.parametrize(
    ("script", "words"),
    [("echo cannot map tensor >&2; exit 3", "ended with 3: cannot map tensor"), ("exit 0", "wrote no GGUF file")],
)
def test_a_converter_that_fails_releases_nothing(
    converter: Path, released: tuple[Path, ExportReport], tmp_path: Path, script: str, words: str
) -> None:
    a_program(converter, "convert_hf_to_gguf", script)
    with pytest.raises(TrainingError, match=words):
        copy_release(released[0], tmp_path / "release", name="ann", gguf=["f16"])
    assert left_behind(tmp_path) == []


@pytest.mark.usefixtures("converter")
def test_an_unknown_variant_names_those_that_there_are(released: tuple[Path, ExportReport], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No GGUF variant is called q9.*q4_k_m"):
        copy_release(released[0], tmp_path / "release", name="ann", gguf=["q9"])
