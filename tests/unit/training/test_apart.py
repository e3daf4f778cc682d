"""Unsloth changes the process that it runs in, so a pipeline gives it one of its own."""

import os
from pathlib import Path

import pytest

from llm_engineering.domain.errors import TrainingError
from llm_engineering.training.apart import trained_by
from tests.doubles.stages import diverges, is_killed, tells_process
from tests.doubles.training import small_recipe

PLACES = {"dataset": Path("dataset"), "out": Path("out")}


@pytest.fixture
def unsloth(monkeypatch):
    monkeypatch.setattr("llm_engineering.training.apart.chosen_engine", lambda *_: "unsloth")


def test_transformers_trains_in_this_process():
    assert trained_by(tells_process, small_recipe(), **PLACES).steps == os.getpid()


def test_unsloth_trains_in_another(unsloth):
    report = trained_by(tells_process, small_recipe(engine="unsloth"), **PLACES)
    assert report.steps != os.getpid()
    assert (report.stage, report.folder) == ("unsloth", "out")


def test_what_fails_there_fails_here(unsloth):
    with pytest.raises(TrainingError, match=r"The run diverged\. Lower the rate") as caught:
        trained_by(diverges, small_recipe(), **PLACES)
    assert caught.value.hint == "Lower the rate."


def test_a_process_that_is_killed_is_one_line(unsloth):
    with pytest.raises(TrainingError, match="ended from outside"):
        trained_by(is_killed, small_recipe(), **PLACES)
