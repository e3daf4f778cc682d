"""Log-probabilities under a tiny model of random weights, made on the spot."""

import math
from pathlib import Path

import pytest

from llm_engineering import bootstrap
from llm_engineering.adapters.transformers_scores import LocalScores
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.twin_evaluation_config import PerplexityConfig
from llm_engineering.evaluation.perplexity import of_text
from llm_engineering.training.render import messages, render, tokens
from tests.doubles.tiny_chat import make_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    make_tiny_model(folder)
    return folder


def test_each_token_is_scored_given_what_stands_before_it(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    scores = LocalScores(str(folder))
    ids = scores.encode("the user asks, and the assistant answers")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = [
            model(torch.tensor([ids[:end]])).logits[0, -1].log_softmax(-1)[ids[end]].item()
            for end in range(1, len(ids))
        ]
    assert scores.log_probabilities(ids) == pytest.approx(expected, abs=1e-4)


def test_a_plain_text_begins_with_the_token_that_begins_every_text(folder: Path) -> None:
    scores = LocalScores(str(folder))
    ids = scores.encode("one two")
    assert ids[0] == scores.tokenizer.bos_token_id
    assert scores.tokenizer.decode(ids[1:]) == "one two"


def test_prompts_are_rendered_token_for_token_as_training_renders_them(folder: Path) -> None:
    trained = tokens(
        LocalScores(str(folder)).tokenizer,
        render(LocalScores(str(folder)).tokenizer, messages("Write.", author="Ada"), "I wrote."),
    )
    with bootstrap.open_scorer(str(folder)) as scorer:
        asked, answered = scorer.render(voice_prompt("Write.", author="Ada"), "I wrote.")
    assert [*asked, *answered] == trained.input_ids
    assert answered == [label for label in trained.labels if label >= 0]


def test_a_text_longer_than_the_window_is_read_in_windows(folder: Path) -> None:
    with bootstrap.open_scorer(str(folder)) as scorer:
        told = of_text(
            "the assistant answers " * 40,
            id_="x",
            document_id="d",
            encode=scorer.encode,
            log_probabilities=scorer.log_probabilities,
            config=PerplexityConfig(context=32, stride=16),
        )
    assert told.tokens == len(LocalScores(str(folder)).encode("the assistant answers " * 40)) - 1
    assert 1 < math.exp(told.nats / told.tokens) < 2000


def test_more_than_the_window_is_refused_with_the_number_to_change(folder: Path) -> None:
    scores = LocalScores(str(folder))
    with pytest.raises(UsageError, match=r"Lower twin\.perplexity\.context"):
        scores.log_probabilities([5] * (scores.window + 1))


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no model"):
        LocalScores(str(tmp_path))


def test_a_base_with_a_name_is_read_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def from_pretrained(name: str, *, revision: str | None = None) -> None:
        asked.append((name, revision))
        raise OSError("there is no network")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", from_pretrained)
    with pytest.raises(UsageError, match="cannot be loaded"), bootstrap.open_scorer("org/base", revision="5f0b02c"):
        pass
    assert asked == [("org/base", "5f0b02c")]
