"""Confidence belongs to the embedding model that it was calibrated for."""

import logging

import pytest

from llm_engineering import bootstrap
from llm_engineering.domain.config import AnswerConfig
from llm_engineering.rag.confidence import FITTED_FOR, holds_for
from llm_engineering.settings import Settings
from tests.unit.rag.library import Library


def test_the_weights_hold_for_the_packaged_model_by_name_and_by_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EMBEDDING_MODEL", raising=False)
    packaged = Settings(_env_file=None).embedding_model  # type: ignore[call-arg]
    assert packaged == FITTED_FOR
    assert holds_for(packaged)
    assert holds_for(f"models/{FITTED_FOR}/")
    assert not holds_for("BAAI/bge-small-en-v1.5")


@pytest.mark.parametrize(("threshold", "warnings"), [(0.5, 1), (0.0, 0)])
def test_a_threshold_over_an_index_of_another_model_is_warned_of(
    library: Library, caplog: pytest.LogCaptureFixture, threshold: float, warnings: int
):
    caplog.set_level(logging.WARNING)
    bootstrap.check_threshold(library.index, AnswerConfig(threshold=threshold))
    assert [("words" in message, "threshold" in message) for message in caplog.messages] == [(True, True)] * warnings
