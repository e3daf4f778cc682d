"""A model that is judged computes in float32, however its weights lie in memory."""

from pathlib import Path

import pytest
import torch

from llm_engineering.domain.errors import UsageError
from llm_engineering.training import placement
from llm_engineering.training.export import export
from llm_engineering.training.parity import Text, read
from llm_engineering.training.placement import compute_in_float32, find_placement
from llm_engineering.training.report import TrainingReport

Trained = tuple[Path, TrainingReport]
TEXTS = [Text([5, 9, 30, 41], [77, 8, 120, 300, 41], greedy=False)]


@pytest.fixture
def base(trained: Trained) -> str:
    return str(trained[0] / "base")


def with_memory(monkeypatch: pytest.MonkeyPatch, **free: float) -> None:
    monkeypatch.setattr(placement, "_memory", lambda: {name: int(size) for name, size in free.items()})


def size(base: str) -> int:
    from transformers import AutoModelForCausalLM

    return int(AutoModelForCausalLM.from_pretrained(base).num_parameters())


def test_float32_goes_before_sixteen_bits_and_the_gpu_before_the_cpu(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = size(base)
    for memory, expected in (
        ({"cuda": count * 5, "cpu": count * 5}, ("cuda", torch.float32)),
        ({"cuda": count * 4.5, "cpu": count * 9}, ("cuda", torch.bfloat16)),
        ({"cuda": count, "cpu": count * 5}, ("cpu", torch.float32)),
    ):
        with_memory(monkeypatch, **memory)
        assert find_placement(base, None) == expected
    with_memory(monkeypatch, cpu=count)
    with pytest.raises(UsageError, match=r"does not fit: a merge takes .* GB are free"):
        find_placement(base, None)


def test_weights_in_sixteen_bits_say_exactly_what_they_say_in_float32(base: str) -> None:
    from transformers import AutoModelForCausalLM

    short = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval()
    rounded = read(short, TEXTS)[0].log_probabilities
    expected = read(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).float().eval(), TEXTS)[0]
    compute_in_float32(short)
    for _ in range(2):
        assert torch.allclose(read(short, TEXTS)[0].log_probabilities, expected.log_probabilities, atol=1e-6)
    assert {weight.dtype for weight in short.parameters()} == {torch.bfloat16}
    assert not torch.allclose(rounded, expected.log_probabilities, atol=1e-3), "or this test tells nothing"


def test_a_merge_that_fits_in_sixteen_bits_only_passes_the_gate(
    base: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, cpu=size(base) * 4.5)
    merged, reloaded = export(trained[0] / "sft", tmp_path / "release").parity.comparisons
    assert merged.passed and reloaded.passed
    assert (merged.mean, merged.largest) == (reloaded.mean, reloaded.largest), "what was saved is what was merged"
