import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics.bleu import BLEU

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.overlap import Answered, _Words, overlap

EVALUATION = EvaluationConfig(resamples=200)
TEXTS = (
    ("The bees fly at dawn over the tomatoes.", "At dawn the bees fly over all tomatoes there."),
    ("I never trust a benchmark that I did not run.", "Never trust any benchmark that you did not run."),
    ("Sow the seeds in March and wait.", "Something else entirely was written here instead."),
)


def answered(*pairs: tuple[str, str]) -> list[Answered]:
    return [
        Answered(id=str(number), document_id=f"d{number}", instruction="?", author=author, twin=twin)
        for number, (author, twin) in enumerate(pairs)
    ]


def test_the_authors_own_words_overlap_wholly_and_other_words_not_at_all() -> None:
    same = overlap(answered(*((author, author) for author, _ in TEXTS)), evaluation=EVALUATION)
    other = overlap(answered(("one two three four", "five six seven eight")), evaluation=EVALUATION)
    assert [figure.interval.mean for figure in same.figures if figure.interval] == pytest.approx([1, 1])
    assert [figure.interval.mean for figure in other.figures if figure.interval] == [0, 0]


def test_bleu_is_the_corpus_score_of_sacrebleu_and_not_a_mean_of_sentences() -> None:
    expected = BLEU().corpus_score([twin for _, twin in TEXTS], [[author for author, _ in TEXTS]]).score / 100
    bleu = overlap(answered(*TEXTS), evaluation=EVALUATION).figures[1].interval
    assert bleu and bleu.mean == pytest.approx(expected)
    assert bleu.low < bleu.mean < bleu.high


def test_rouge_l_is_that_of_the_longest_common_subsequence() -> None:
    part = overlap(answered(("a b c d", "a x c")), evaluation=EVALUATION)
    assert part.rows[0]["ROUGE-L"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


@pytest.mark.parametrize(
    "text",
    [
        "Съешь же ещё этих мягких французских булок, да выпей чаю.",
        "我喜欢这本书，因为它写得很好，也很有意思。",
        "ผมชอบหนังสือเล่มนี้เพราะเขียนดี",
        "मुझे यह किताब बहुत पसंद है।",
    ],
)
def test_a_text_in_any_script_overlaps_wholly_with_itself(text: str) -> None:
    found = overlap(answered((text, text)), evaluation=EVALUATION)
    assert [figure.interval.mean for figure in found.figures if figure.interval] == pytest.approx([1, 1])


@given(st.text(st.characters(max_codepoint=127)))
def test_english_has_the_tokens_of_rouge(text: str) -> None:
    assert _Words().tokenize(text) == DefaultTokenizer(use_stemmer=True).tokenize(text)


def test_the_report_says_which_bleu_it_is() -> None:
    assert "tok:13a" in overlap(answered(*TEXTS), evaluation=EVALUATION).notes[0]


def test_an_empty_answer_counts_as_no_overlap() -> None:
    part = overlap(answered(("some words stand here", "")), evaluation=EVALUATION)
    assert [figure.interval.mean for figure in part.figures if figure.interval] == [0, 0]


def test_without_instructions_that_is_said() -> None:
    assert overlap([], evaluation=EVALUATION).missing == "there is no held-out instruction"
