"""Exports have the shapes that trainers read, in the one wording of prompts."""

import json

import pyarrow.parquet as pq
import pytest

from llm_engineering.dataset import store
from llm_engineering.dataset.export import (
    json_lines,
    to_alpaca,
    to_dpo,
    to_messages,
    to_sharegpt,
    to_sharegpt_dpo,
)
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.samples import Pair, PairSource, Split
from llm_engineering.training.data import read_examples, read_preferences
from tests.doubles.writing import HALVES, article, built, draft, record
from tests.unit.dataset.test_build import rejected_for
from tests.unit.dataset.test_split import sample

SAMPLE = sample("d1", "The author's words.", instruction="What is it?")
PAIR = Pair.of(SAMPLE, "A model's words.", source=PairSource.BASE, rejected_by="base")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    record(folder, *(draft(f"d{n}", article(f"alpha{n}", f"beta{n}")) for n in range(12)))
    made = built(folder, HALVES, make_pairs=rejected_for)
    store.write(made.dataset, folder / "datasets")
    return made.dataset, folder / "datasets" / "twin" / made.dataset.card.version


def shape(value):
    """Keys and types, whatever the words."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_messages_are_the_prompt_of_the_twin_and_the_authors_answer():
    prompt = voice_prompt("What is it?", author="Ann").messages
    assert to_messages(SAMPLE)["messages"] == [
        *({"role": message.role, "content": message.content} for message in prompt),
        {"role": "assistant", "content": "The author's words."},
    ]


def test_every_form_shows_a_model_the_same_words():
    system, user, answer = (message["content"] for message in to_messages(SAMPLE)["messages"])
    alpaca, sharegpt, dpo = to_alpaca(SAMPLE), to_sharegpt(SAMPLE), to_dpo(PAIR)
    assert (alpaca["system"], alpaca["instruction"], alpaca["output"]) == (system, user, answer)
    assert [sharegpt["system"], *(turn["value"] for turn in sharegpt["conversations"])] == [system, user, answer]
    assert [message["content"] for message in dpo["prompt"] + dpo["chosen"]] == [system, user, answer]


def test_shapes_are_those_of_known_sets(data):
    def first(name):
        return json.loads((data / "ft_formats" / name).read_text(encoding="utf-8"))[0]

    alpaca, dpo, kto = (first(f"{name}_en_demo_40.json") for name in ("alpaca", "dpo", "kto"))
    own = to_alpaca(SAMPLE)
    assert shape({key: own[key] for key in alpaca}) == shape(alpaca)
    own = to_sharegpt_dpo(PAIR)
    assert shape({key: own[key] for key in dpo}) == shape(dpo)
    assert shape(to_sharegpt(SAMPLE)["conversations"]) == shape(dpo["conversations"])
    assert shape(to_messages(SAMPLE)["messages"]) == shape(kto["messages"])


def test_json_lines_are_one_object_a_line_whatever_the_characters():
    text = "line\u2028two\u0085three\nfour \U0001f525 \ud800"
    lines = json_lines([to_alpaca(sample("d1", text))] * 2).splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["output"] == text.replace("\ud800", "?")


def test_every_split_has_its_files_and_they_hold_its_samples(written):
    dataset, folder = written
    for split in Split:
        rows = pq.read_table(folder / "instruct" / f"{split}.parquet").to_pylist()
        assert [row["id"] for row in rows] == [each.id for each in dataset.samples[split]]
        assert [row["messages"] for row in rows] == [to_messages(each)["messages"] for each in dataset.samples[split]]
        for form in ("messages", "alpaca", "sharegpt", "dpo", "sharegpt_dpo"):
            lines = (folder / "exports" / form / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
            entries = dataset.pairs[split] if "dpo" in form else dataset.samples[split]
            assert len(lines) == len(entries)


def test_training_reads_what_was_written(written):
    dataset, folder = written
    example = read_examples(folder, Split.TRAIN)[0]
    first = dataset.samples[Split.TRAIN][0]
    assert (example.instruction, example.answer, example.author) == (first.instruction, first.answer, "Ann Lee")
    preference, pair = read_preferences(folder, Split.TRAIN)[0], dataset.pairs[Split.TRAIN][0]
    assert (preference.chosen, preference.rejected) == (pair.chosen, pair.rejected)


def test_rows_lead_back_to_document_revision_and_span(written):
    dataset, folder = written
    row = pq.read_table(folder / "instruct" / "train.parquet").to_pylist()[0]
    where = dataset.samples[Split.TRAIN][0].provenance
    assert (row["document_id"], row["revision"], row["start"], row["end"]) == (
        where.document_id,
        where.revision,
        where.start,
        where.end,
    )
    assert row["end"] - row["start"] == len(row["answer"])


@pytest.mark.parametrize("kind", ["instruct", "preference"])
def test_hugging_face_reads_the_folder_by_its_card(written, kind):
    datasets = pytest.importorskip("datasets", reason="the extra train is not installed")
    dataset, folder = written
    entries = dataset.samples if kind == "instruct" else dataset.pairs
    read = datasets.load_dataset(str(folder), kind, cache_dir=str(folder.parent / "cache"))
    assert {name: rows["id"] for name, rows in read.items()} == {
        split.value: [entry.id for entry in side] for split, side in entries.items()
    }
