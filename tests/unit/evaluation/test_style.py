import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import StyleConfig
from llm_engineering.evaluation.authorship import Trait, cross_fitted
from llm_engineering.evaluation.delta import delta_from
from llm_engineering.evaluation.function_words import FUNCTION_WORDS
from llm_engineering.evaluation.prose import StyleText, masked, pieces, prose, words
from llm_engineering.evaluation.report import Part
from llm_engineering.evaluation.resampling import Block, auc, ratio
from llm_engineering.evaluation.style import DELTA, NAME, VERIFICATION, style, told_apart, traits_of
from tests.unit.evaluation.writers import writer

EVALUATION = EvaluationConfig(resamples=200)
CONFIG = StyleConfig(words=40, folds=4)


def figures(part: Part) -> dict[str, float]:
    return {figure.name: figure.interval.mean for figure in part.figures if figure.interval}


def parts(twin: list[StyleText]) -> dict[str, Part]:
    found = style(
        twin=twin,
        held_out=writer("ada", seed=1, prefix="held"),
        known=writer("ada", seed=2, prefix="known"),
        distractors={"Ben": writer("ben"), "Cyd": writer("cyd")},
        config=CONFIG,
        evaluation=EVALUATION,
    )
    return {part.name: part for part in found}


@pytest.fixture(scope="module")
def of_a_good_twin() -> dict[str, Part]:
    return parts(writer("ada", seed=3, prefix="held"))


@pytest.fixture(scope="module")
def of_a_bad_twin() -> dict[str, Part]:
    return parts(writer("ben", seed=3, prefix="held"))


@pytest.mark.parametrize("trait", Trait)
def test_a_twin_that_writes_like_another_is_told_apart_and_one_that_writes_like_the_author_hardly(
    trait: Trait, of_a_good_twin: dict[str, Part], of_a_bad_twin: dict[str, Part]
) -> None:
    figure = f"twin against author, by {trait}"
    assert figures(of_a_bad_twin[NAME])[figure] > 0.95
    assert figures(of_a_good_twin[NAME])[figure] < 0.75


def test_output_in_anothers_style_is_taken_for_that_other(of_a_bad_twin: dict[str, Part]) -> None:
    found = figures(of_a_bad_twin[VERIFICATION])
    assert found["twin's output rather than Ben's, by function words"] < 0.75
    assert found["author's held-out text rather than Ben's, by function words"] > 0.95


def test_delta_is_least_for_the_author(of_a_bad_twin: dict[str, Part]) -> None:
    found = figures(of_a_bad_twin[DELTA])
    assert found["author's held-out text"] < min(found["twin's output"], found["Ben"], found["Cyd"])


def test_controls_tell_real_others_apart_and_the_author_not_from_themselves(of_a_good_twin: dict[str, Part]) -> None:
    found = figures(of_a_good_twin[NAME])
    assert found["author against Ben, by function words"] > 0.95
    assert found["author against Cyd, by function words"] > 0.95
    assert found["author against themselves, by function words"] < 0.75


def test_identical_texts_cannot_be_told_apart() -> None:
    same = writer("ada")
    for trait in Trait:
        interval = told_apart(same, same, trait=trait, config=CONFIG, evaluation=EVALUATION)
        assert interval and interval.mean == pytest.approx(0.5)
        assert interval.low <= 0.5 <= interval.high


def test_each_document_is_scored_once_with_both_its_sides_together() -> None:
    """Twin and author write about the same documents: what was learnt from one side must not judge the other."""
    left, right = writer("ada", prefix="d"), writer("ben", prefix="d")
    blocks = cross_fitted(left, right, trait=Trait.FUNCTION_WORDS, config=CONFIG, seed=7)
    scored = [group for block in blocks for group in block.positive_groups]
    assert sorted(scored) == sorted(each.document_id for each in left)
    assert all(set(block.positive_groups) == set(block.negative_groups) for block in blocks)


def test_what_only_a_document_itself_tells_is_not_learnt_from_it() -> None:
    """Every document has words of its own: whoever had seen it would know its writer."""
    own = ["".join(chr(97 + (n * 7 + k * 11) % 26) for k in range(6)) for n in range(24)]
    texts = [StyleText(document_id=word, text=f"the {word} and " * 20) for word in own]
    found = told_apart(texts[::2], texts[1::2], trait=Trait.CHARACTERS, config=CONFIG, evaluation=EVALUATION)
    assert found and found.mean < 0.9


def test_a_subject_tells_nothing_when_content_words_are_masked() -> None:
    gardens = [StyleText(document_id=f"g{n}", text="the tomatoes and the seeds were in soil " * 8) for n in range(8)]
    boats = [StyleText(document_id=f"b{n}", text="the harbours and the masts were in rope " * 8) for n in range(8)]
    by_letters = told_apart(gardens, boats, trait=Trait.CHARACTERS, config=CONFIG, evaluation=EVALUATION)
    by_masked = told_apart(gardens, boats, trait=Trait.MASKED, config=CONFIG, evaluation=EVALUATION)
    assert by_letters and by_letters.mean == 1
    assert by_masked and by_masked.mean == 0.5


def test_too_little_text_or_too_few_others_is_said_and_not_measured() -> None:
    found = style(
        twin=writer("ada", documents=2),
        held_out=writer("ada", documents=2),
        known=writer("ada", seed=2, prefix="known"),
        distractors={"Ben": writer("ben"), "Cyd": writer("cyd", documents=1)},
        config=CONFIG,
        evaluation=EVALUATION,
    )
    assert "4 documents with 40 words" in found[0].missing
    assert "2 other authors are needed" in found[1].missing
    assert "fewer than 4 documents of 40 words: Cyd (1)" in found[1].notes[-1]
    assert not any(part.figures for part in found)


def test_a_control_with_too_little_text_is_named_although_two_others_remain() -> None:
    found = style(
        twin=writer("ada", seed=3, prefix="held"),
        held_out=writer("ada", seed=1, prefix="held"),
        known=writer("ada", seed=2, prefix="known"),
        distractors={"Ben": writer("ben"), "Cyd": writer("cyd"), "Dot": writer("ben", documents=1)},
        config=CONFIG,
        evaluation=EVALUATION,
    )
    assert all("Dot (1)" in part.notes[-1] for part in found)


def russian(name: str, *, seed: int = 0, prefix: str = "") -> list[StyleText]:
    """Two writers with habits of their own."""
    habits = {
        "ada": ("и поэтому я думаю что", "но не всегда", "конечно", "в конце концов"),
        "ben": ("вам следует", "убедитесь что", "после этого вы можете", "не забудьте"),
    }[name]
    chance = random.Random(f"{name} {seed}")
    subject = ("помидоры", "пчёлы", "почва", "семена", "паруса", "гавани")
    return [
        StyleText(
            document_id=f"{prefix or name}-{number}",
            text=" ".join(f"{chance.choice(habits)} {chance.choice(subject)}." for _ in range(40)),
        )
        for number in range(8)
    ]


def test_of_an_author_who_does_not_write_english_what_the_english_list_hides_is_not_measured() -> None:
    found = style(
        twin=russian("ben", prefix="held"),
        held_out=russian("ada", seed=1, prefix="held"),
        known=russian("ada", seed=2, prefix="known"),
        distractors={"Ben": russian("ben"), "Cyd": russian("ben", seed=1, prefix="cyd")},
        config=CONFIG,
        evaluation=EVALUATION,
    )
    assert {name for name in figures(found[0]) if name.startswith("twin")} == {
        "twin against author, by character n-grams"
    }
    assert figures(found[0])["twin against author, by character n-grams"] > 0.95
    assert len(found[1].figures) == 4
    assert "0% of the author's words" in found[0].notes[-1]
    assert figures(found[2])["author's held-out text"] < figures(found[2])["twin's output"]


def test_english_authors_are_told_by_every_trait_and_others_by_letters_alone() -> None:
    german = "Der Boden war trocken und voller Steine, und die alten Bäume warfen im Sommer einen langen Schatten auf das Gras."
    assert traits_of(writer("ada")) == traits_of([]) == tuple(Trait)
    assert traits_of([StyleText(document_id="d", text=german)]) == (Trait.CHARACTERS,)


def test_chinese_text_is_cut_by_characters() -> None:
    found = pieces([StyleText(document_id="d", text="我喜欢这本书，因为它很好。" * 3)], words=10)
    assert [len(words(piece.text)) for piece in found] == [10, 10, 10]


def test_prose_has_no_code_addresses_tables_or_marks() -> None:
    text = (
        "# A *title*\n\nIt’s **so** [linked](https://a.example/b_c).\n\n```python\nx = 1\n```\n\n    indented()\n"
        "\n| a | b |\n|---|---|\n\n- one `code` item\n![picture](p.png) <b>bold</b> snake_case https://b.example/x\n"
    )
    assert prose(text) == "A title It's so linked. one item bold snake_case"


def test_an_unclosed_fence_hides_the_rest() -> None:
    assert prose("Before.\n\n```\ncode\n") == "Before."


def test_masking_keeps_function_words_and_punctuation_alone() -> None:
    assert masked("The 3 bees, I'm told, can't fly at 10.5!") == "The # *, I'm *, can't * at #!"


@given(st.lists(st.text(alphabet="ab '.\n", max_size=60), max_size=5), st.integers(1, 9))
def test_pieces_have_exactly_their_length_and_lose_less_than_one_piece(texts: list[str], length: int) -> None:
    of_one = [StyleText(document_id="one", text=text) for text in texts]
    found = pieces(of_one, words=length)
    assert all(len(words(piece.text)) == length for piece in found)
    whole = len(words(" ".join(prose(text) for text in texts)))
    assert whole - len(found) * length in range(length)


def test_function_words_are_those_that_the_word_reader_sees() -> None:
    assert len(FUNCTION_WORDS) > 300
    assert all(words(word) == [word] for word in FUNCTION_WORDS)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.lists(st.integers(-3, 3), min_size=1, max_size=12))
@settings(deadline=None)
def test_auc_equals_counting_pairs_and_lies_in_its_interval(positive: list[int], negative: list[int]) -> None:
    groups = [str(number) for number in range(12)]
    block = Block(positive, groups[: len(positive)], negative, groups[: len(negative)])
    found = auc([block], n=5, config=EVALUATION)
    expected = np.mean([(p > q) + 0.5 * (p == q) for p in positive for q in negative])
    assert found and found.mean == pytest.approx(expected)
    assert 0 <= found.low <= found.mean <= found.high <= 1


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12))
@settings(deadline=None)
def test_auc_of_the_same_scores_is_one_half(scores: list[int]) -> None:
    groups = [str(number) for number in range(len(scores))]
    found = auc([Block(scores, groups, scores, groups)], n=1, config=EVALUATION)
    assert found and found.mean == pytest.approx(0.5)


def test_scores_of_different_judges_are_never_compared() -> None:
    one = Block([1.0], ["a"], [0.0], ["b"])
    other = Block([101.0], ["c"], [100.0], ["d"])
    found = auc([one, other], n=2, config=EVALUATION)
    assert found and found.mean == 1.0


def test_a_ratio_draws_whole_documents() -> None:
    """One document of equal values has no width, however many values it gives."""
    assert ratio([], [], [], config=EVALUATION) is None
    one = ratio([1.0, 0.0], [1.0, 1.0], ["a", "a"], config=EVALUATION)
    two = ratio([1.0, 0.0], [1.0, 1.0], ["a", "b"], config=EVALUATION)
    assert one and (one.low, one.mean, one.high) == (0.5, 0.5, 0.5)
    assert two and (two.low, two.high) == (0.0, 1.0)


def test_delta_of_the_profile_itself_is_zero() -> None:
    own = writer("ada", documents=1)
    assert delta_from(own, [*own, *writer("ben")], frequent_words=30)(own[0]) == 0


def test_the_two_authors_of_a_real_warehouse_are_told_apart(data: Path) -> None:
    """All 76 articles give 0.96 by function words and 1.00 by character n-grams (see the benchmark); here a third of them."""
    articles = json.loads((data / "handbook_warehouse" / "ArticleDocument.json").read_text(encoding="utf-8"))[::3]
    texts: dict[str, list[StyleText]] = {}
    for each in articles:
        text = StyleText(document_id=each["link"], text=(each["content"]["Content"] or "")[:6000])
        texts.setdefault(each["author_full_name"], []).append(text)
    first, second = (pieces(each, words=200) for each in texts.values())
    config = StyleConfig()
    by_words = told_apart(first, second, trait=Trait.FUNCTION_WORDS, config=config, evaluation=EVALUATION)
    by_masked = told_apart(first, second, trait=Trait.MASKED, config=config, evaluation=EVALUATION)
    assert by_words and by_words.mean > 0.85
    assert by_masked and by_masked.mean > 0.9
