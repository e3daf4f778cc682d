from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.adapters.blind_folder import BlindFolder
from llm_engineering.domain.blind import BlindChoice, BlindPair
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.human import blind_pairs, human, wilson
from llm_engineering.evaluation.overlap import Answered

EVALUATION = EvaluationConfig()
LONG = "the quick brown fox jumps over the lazy dog and then it sleeps in the warm sun "


def pair(number: int, *, seed: int = 7, document: str = "d") -> BlindPair:
    return BlindPair.of(
        model="m", author="Ada", task=f"task {number}", twin=f"twin {number}", written=f"hers {number}", seed=seed,
        document_ids=(document,),
    )  # fmt: skip


def choice(number: int, taken: str, judge: str = "j") -> BlindChoice:
    return BlindChoice(pair_id=pair(number).id, model="m", judge=judge, taken=taken)  # type: ignore[arg-type]


def answered(author: str, twin: str, number: int = 0) -> Answered:
    return Answered(id=str(number), document_id="d", instruction=f"task {number}", author=author, twin=twin)


def test_the_order_is_fair_and_the_same_each_time() -> None:
    first = [pair(number).order[0] for number in range(400)]
    assert 150 < first.count("twin") < 250
    assert first == [pair(number).order[0] for number in range(400)]
    assert first != [pair(number, seed=8).order[0] for number in range(400)]


@given(st.integers(0, 1000))
def test_what_is_chosen_by_place_is_what_stood_there(number: int) -> None:
    of = pair(number)
    chosen = {"twin": of.twin, "author": of.written}
    assert (chosen[of.meant("first")], chosen[of.meant("second")]) == of.texts
    assert of.meant("neither") == "neither"


def test_neither_length_nor_the_end_tells_the_texts_apart() -> None:
    (shown,) = blind_pairs([answered(LONG * 3, LONG.upper())], model="m", author="Ada", evaluation=EVALUATION)
    assert shown.twin.endswith("WARM …")
    assert shown.written.endswith("warm …")
    assert len(shown.twin.split()) == len(shown.written.split()) == 17


def test_texts_without_spaces_are_broken_off_by_characters() -> None:
    hers, its = "我喜欢这本书，因为它写得很好，也很有意思。", "我今天去了公园，看见很多人在那里跑步和唱歌。"
    (shown,) = blind_pairs([answered(hers, its)], model="m", author="Ada", evaluation=EVALUATION)
    assert shown.written == "我喜欢这本书，因为它写得很好，也很有意 …"
    assert shown.twin == "我今天去了公园，看见很多人在那里跑步 …"


def test_pairs_that_nobody_could_tell_are_not_shown() -> None:
    given_ = [answered("too short", "so short", 1), answered(LONG, f" {LONG}", 2)]
    assert blind_pairs(given_, model="m", author="Ada", evaluation=EVALUATION) == []


def test_no_more_pairs_than_the_limit_and_the_same_ones_each_time() -> None:
    many = [answered(f"{LONG} {n}", f"{n} {LONG}", n) for n in range(30)]
    one = blind_pairs(many, model="m", author="Ada", limit=10, evaluation=EVALUATION)
    assert len(one) == 10
    assert one == blind_pairs(many, model="m", author="Ada", limit=10, evaluation=EVALUATION)
    assert one == blind_pairs(many, model="m", author="Ada", evaluation=EVALUATION)[:10]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(10, 20, 0.299, 0.701), (0, 10, 0.0, 0.278), (81, 263, 0.255, 0.366)],
)
def test_wilsons_interval_is_the_published_one(successes: int, n: int, low: float, high: float) -> None:
    """The third row is the example of Newcombe (1998)."""
    assert wilson(successes, n, level=0.95) == pytest.approx((low, high), abs=5e-4)


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilsons_interval_holds_the_share_and_is_symmetric(successes: int, failures: int) -> None:
    low, high = wilson(successes, successes + failures, level=0.9)
    assert 0 <= low <= high <= 1
    if successes + failures:
        assert low <= successes / (successes + failures) <= high
    assert wilson(failures, successes + failures, level=0.9) == pytest.approx((1 - high, 1 - low))


def test_choices_become_a_share_and_who_could_not_tell_is_counted_apart() -> None:
    choices = [choice(1, "twin"), choice(2, "author"), choice(3, "neither"), choice(1, "author", "k")]
    part = human(choices, pairs=[pair(1), pair(2), pair(3)], evaluation=EVALUATION)
    share = part.figures[0].interval
    assert share and (share.mean, share.n) == (pytest.approx(1 / 3), 3)
    assert part.counts == {"choices": 4, "could not tell": 1, "judges": 2}


def test_choices_about_other_texts_or_weights_do_not_count_whatever_the_model_is_called() -> None:
    of_before = BlindChoice(pair_id="of-other-weights", model="m", judge="j", taken="twin")
    part = human([of_before, choice(1, "author"), choice(4, "twin")], pairs=[pair(1), pair(2)], evaluation=EVALUATION)
    assert part.counts["choices"] == 1
    assert human([of_before], pairs=[pair(1)], evaluation=EVALUATION).missing


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    store = BlindFolder(tmp_path / "blind")
    assert (store.pairs(), store.choices()) == ([], [])
    store.replace("m", [pair(1), pair(2)])
    store.choose(choice(1, "twin"))
    again = BlindFolder(tmp_path / "blind")
    assert again.pairs() == [pair(1), pair(2)]
    assert [kept.taken for kept in again.choices()] == ["twin"]


def test_a_later_choice_of_one_person_takes_the_place_of_the_first_and_anothers_stands_beside(tmp_path: Path) -> None:
    store = BlindFolder(tmp_path)
    for one in (choice(1, "twin"), choice(1, "neither", "k"), choice(1, "author")):
        store.choose(one)
    assert [(kept.judge, kept.taken) for kept in store.choices()] == [("k", "neither"), ("j", "author")]


def test_a_line_that_a_killed_process_left_unfinished_costs_no_other_choice(tmp_path: Path) -> None:
    store = BlindFolder(tmp_path)
    store.choose(choice(1, "twin"))
    with (tmp_path / "choices.jsonl").open("ab") as file:
        file.write(b'{"pair_id": "half')
    store.choose(choice(2, "author"))
    assert [kept.taken for kept in store.choices()] == ["twin", "author"]


def test_forgetting_a_document_erases_its_words(tmp_path: Path) -> None:
    store = BlindFolder(tmp_path)
    store.replace("m", [pair(1, document="gone"), pair(2)])
    assert store.forget(["gone"]) == 1
    assert store.pairs() == [pair(2)]
    assert all(b"hers 1" not in file.read_bytes() for file in tmp_path.iterdir())


def test_pairs_of_models_out_of_use_are_kept_and_not_shown(tmp_path: Path) -> None:
    BlindFolder(tmp_path).replace("m", [pair(1)])
    assert BlindFolder(tmp_path, hidden=lambda: {"m"}).pairs() == []
    assert BlindFolder(tmp_path, hidden=lambda: {"n"}).pairs() == [pair(1)]


def test_the_same_texts_of_other_weights_are_another_pair() -> None:
    given_ = [answered(LONG * 3, LONG.upper())]
    first, again, other = (
        blind_pairs(given_, model="m", author="Ada", weights=weights, evaluation=EVALUATION)[0].id
        for weights in ("a", "a", "b")
    )
    assert first == again != other


def test_pairs_of_a_new_evaluation_replace_the_old_ones_of_that_model_alone(tmp_path: Path) -> None:
    store = BlindFolder(tmp_path)
    other = pair(3).model_copy(update={"model": "n"})
    store.replace("m", [pair(1)])
    store.replace("n", [other])
    store.replace("m", [pair(2)])
    assert store.pairs() == [pair(2), other]


def test_a_damaged_file_and_a_forbidden_folder_are_said_in_one_line(tmp_path: Path) -> None:
    store = BlindFolder(tmp_path)
    store.replace("m", [pair(1)])
    next(tmp_path.glob("*.pairs.jsonl")).write_text("{}\n", encoding="utf-8")
    with pytest.raises(StoreUnavailable, match="no blind pair"):
        store.pairs()
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(StoreUnavailable, match="cannot be read or written"):
        BlindFolder(blocked / "blind").replace("m", [])
