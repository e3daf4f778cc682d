from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import MemorisationConfig
from llm_engineering.evaluation.memorisation import AUTHOR, TWIN, memorisation
from llm_engineering.evaluation.prose import StyleText
from llm_engineering.evaluation.report import Part
from llm_engineering.evaluation.verbatim import matches

EVALUATION = EvaluationConfig(resamples=200)
WORDS = st.lists(st.sampled_from("abc"), max_size=14)


def text(document: str, words: str) -> StyleText:
    return StyleText(document_id=document, text=words)


def judged(twin: str, training: list[str], held_out: str = "") -> Part:
    shares, runs = memorisation(
        twin=[text("x", twin)],
        held_out=[text("x", held_out)] if held_out else [],
        training=[text(str(number), words) for number, words in enumerate(training)],
        config=MemorisationConfig(gram=3),
        evaluation=EVALUATION,
    )
    return shares.model_copy(update={"figures": (*shares.figures, *runs.figures)})


def mean(part: Part, figure: str) -> float:
    return next(each.interval.mean for each in part.figures if each.name == figure and each.interval)


def stands_in(run: list[str], words: list[str]) -> bool:
    return any(words[place : place + len(run)] == run for place in range(len(words)))


def longest_up_to(end: int, words: list[str], sources: list[list[str]]) -> int:
    lengths = (end - start for start in range(end) if any(stands_in(words[start:end], each) for each in sources))
    return max(lengths, default=0)


@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, max_size=4))
@settings(max_examples=300, deadline=None)
def test_runs_equal_those_found_by_looking_everywhere(texts: list[list[str]], sources: list[list[str]]) -> None:
    found = matches(texts, [(str(number), words) for number, words in enumerate(sources)])
    for words, each in zip(texts, found, strict=True):
        assert list(each.lengths) == [longest_up_to(end, words, sources) for end in range(1, len(words) + 1)]


@given(WORDS, WORDS)
def test_the_longest_run_is_as_long_from_either_side(one: list[str], other: list[str]) -> None:
    (left,), (right,) = matches([one], [("other", other)]), matches([other], [("one", one)])
    assert (left.longest.length if left.longest else 0) == (right.longest.length if right.longest else 0)


@given(WORDS, st.lists(WORDS, max_size=4))
def test_the_named_source_holds_the_run(words: list[str], sources: list[list[str]]) -> None:
    (found,) = matches([words], [(str(number), each) for number, each in enumerate(sources)])
    for end, (length, source) in enumerate(zip(found.lengths, found.sources, strict=True), start=1):
        assert not length or stands_in(words[end - length : end], sources[int(source)])


def test_a_run_never_crosses_from_one_document_to_the_next() -> None:
    assert (
        mean(judged("one two three four", ["one two", "three four"]), f"longest verbatim run of a text (words), {TWIN}")
        == 2
    )


def test_output_copied_from_training_is_all_memorised_and_says_from_where() -> None:
    part = judged("The bees, they fly. At dawn!", ["nothing here", "Before: the bees they fly at dawn again"])
    assert mean(part, f"share of 3-grams in the training text, {TWIN}") == 1
    assert part.counts[f"longest verbatim run, {TWIN} (words)"] == 6
    assert part.findings["Longest verbatim run of each text"] == ("6 words of 1, in the text about x",)


def test_the_authors_own_rate_stands_beside() -> None:
    part = judged("a b c d", ["x y z and more"], held_out="x y z now")
    assert mean(part, f"share of 3-grams in the training text, {TWIN}") == 0
    assert mean(part, f"share of 3-grams in the training text, {AUTHOR}") == 0.5


def test_output_shorter_than_a_gram_has_no_share() -> None:
    part = judged("a b", ["a b"])
    assert [figure.interval is None for figure in part.figures if TWIN in figure.name] == [True, False]


def test_nothing_written_is_said() -> None:
    assert judged(" ", ["a b c"]).missing == "the twin has written nothing"


def test_case_punctuation_and_typography_do_not_hide_a_copy() -> None:
    part = judged("It’s\n“NEVER” so-so: 10.", ["it's never so so 10"])
    assert mean(part, f"share of 3-grams in the training text, {TWIN}") == 1


def test_a_copy_in_a_script_without_spaces_is_counted_by_characters() -> None:
    part = judged("我喜欢这本书，因为它很好。", ["他说：“我喜欢这本书 因为它很好”！"])
    assert part.counts[f"longest verbatim run, {TWIN} (words)"] == 11
    assert mean(part, f"share of 3-grams in the training text, {TWIN}") == 1


def test_endless_repetition_is_read_in_linear_time() -> None:
    """A quadratic method would compare 10^10 pairs of places here."""
    words = ["a"] * 100_000
    (found,) = matches([words], [("all", words)])
    assert found.longest and found.longest.length == 100_000


def test_the_same_words_in_many_outputs_are_found_in_each() -> None:
    texts = [list("abcab"), list("bcab"), list("abcab")]
    found = matches(texts, [("s", list("xbcay"))])
    assert [each.longest.length for each in found if each.longest] == [3, 3, 3]
