"""Languages that write no spaces: a character counts as a word everywhere, so that their documents give samples, too."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.dataset.audit import _runs as audit_runs
from llm_engineering.dataset.audit import audit
from llm_engineering.dataset.pieces import Piece
from llm_engineering.dataset.split import apart
from llm_engineering.dataset.words import count_words, parts_of_words, runs
from llm_engineering.domain.blocks import BlockKind
from llm_engineering.domain.dataset_config import DatasetConfig, InstructConfig
from llm_engineering.domain.samples import InstructionStyle, Split
from tests.doubles.writing import built, draft, passages_of, record, state_of
from tests.unit.dataset.test_split import sample

CHINESE = (
    "我多年来一直在思考消息队列的问题，也写过不少相关的文章。很多人第一次接触它的时候，都会觉得概念太多，难以入门。"
    "其实只要抓住一点就够了：生产者只管写，消费者只管读，中间的日志负责记住一切。剩下的细节，可以在实践中慢慢补上。"
)
JAPANESE = (
    "私は長年にわたって分散システムについて考えてきました。最初に伝えたいのは、専門家でなくても始められるということです。"
    "小さく作り、動かし、測り、そして直す。この繰り返しだけが、信頼できる仕組みを育ててくれると私は信じています。"
)


def chapters(paragraph: str, count: int, paragraphs: int = 3) -> str:
    """Clauses of the paragraph's characters, no two alike."""
    dice = random.Random(paragraph)
    characters = [character for character in paragraph if character.isalpha()]

    def written() -> str:
        clauses = ["".join(dice.choices(characters, k=12)) for _ in range(8)]
        return "。".join("，".join(clauses[first : first + 2]) for first in range(0, 8, 2)) + "。"

    return "\n\n".join(
        f"## 第{chapter}章\n\n" + "\n\n".join(written() for _ in range(paragraphs)) for chapter in range(count)
    )


@pytest.mark.parametrize(("paragraph", "language"), [(CHINESE, "zh"), (JAPANESE, "ja")])
def test_a_document_without_spaces_becomes_passages_and_samples(tmp_path, paragraph, language):
    text = chapters(paragraph, 4)
    found, refusals = passages_of(state_of(tmp_path, text, language=language), DatasetConfig().passages)
    assert (len(found), refusals) == (4, [])
    styles = {InstructionStyle.TITLE: 0.5, InstructionStyle.CONTINUE: 0.5}
    made = built(tmp_path, DatasetConfig(instruct=InstructConfig(styles=styles, per_passage=2)))
    assert sum(made.dataset.card.samples.values()) >= 4
    assert made.dataset.card.styles.keys() == {"title", "continue"}


def test_a_long_section_without_spaces_is_divided_and_a_short_one_is_too_short(tmp_path):
    long = chapters(CHINESE, 1, paragraphs=20)
    record(tmp_path, draft("d", f"{long}\n\n## 附\n\n太短了，没什么可说的。", language="zh"))
    made = built(tmp_path, DatasetConfig())
    assert made.dataset.card.passages >= 4
    assert made.dataset.card.refusals["too-short"] == 1 and "too-long" not in made.dataset.card.refusals


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, "snake_case and we'll see", "ｆｕｌｌ width", "mail [e-mail] now"])
def test_pieces_and_gates_count_the_same_words(text):
    assert Piece(0, len(text), BlockKind.PARAGRAPH, text).words == count_words(text)


@given(st.lists(st.sampled_from(["消", "息", "คำ", "word", "two"]), max_size=30), st.integers(1, 5))
def test_the_splitter_and_the_audit_see_the_same_runs_of_words(tokens, length):
    parts = parts_of_words(" ".join(tokens))
    assert list(runs(parts, length)) == list(audit_runs(parts, length))
    assert all(
        sum(2 if part.isascii() else 1 for part in run) in (2 * length, 2 * length + 1) for run in runs(parts, length)
    )


def test_sixteen_chinese_characters_in_a_row_are_a_leak_and_a_term_of_nine_is_none():
    shared, term = CHINESE[:18], "人工智能大语言模型"
    sides = {"a": Split.TRAIN, "b": Split.TEST}
    for text, kept in ((shared, ["b"]), (term, ["a", "b"])):
        samples = [sample("a", f"前面{text}后面", instruction="甲"), sample("b", f"其实{text}而已", instruction="乙")]
        assert [each.provenance.document_id for each in apart(samples, sides)[0]] == kept
        found = audit({Split.TRAIN: samples[:1], Split.TEST: samples[1:]})
        assert bool(found.leaks) == (len(kept) == 1)
