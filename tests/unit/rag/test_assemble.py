"""What a model is shown: exact spans of the current revision, within a budget, nothing twice."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.entities import Hit, now
from llm_engineering.domain.sentences import sentences
from llm_engineering.rag.assemble import Assembled, assemble
from llm_engineering.rag.candidates import capped, fused, recent_first
from llm_engineering.rag.rerank import diversified
from tests.doubles.hits import a_hit
from tests.unit.rag.library import Library

TEXT = "One is first. Two comes next. Three is company.\n\nFour is a crowd. Five is a hand. Six is half a dozen."


@dataclass
class Shelf:
    library: Library

    def hit(
        self, name: str, text: str, start: int, end: int, *, window: tuple[int, int] | None = None, score: float = 1.0
    ) -> Hit:
        return a_hit(self.library.write(name, text), text, start, end, window=window, score=score)

    def show(self, *hits: Hit, query: str = "crowd", budget: int = 1000) -> Assembled:
        return assemble(
            hits,
            query=query,
            warehouse=self.library.warehouse,
            terms=lambda text: frozenset(self.library.sparse.encode_query(text).indices),
            count_tokens=lambda text: len(text.split()),
            budget=budget,
        )


@pytest.fixture
def shelf(library: Library) -> Shelf:
    return Shelf(library)


def test_a_hit_is_shown_with_its_window(shelf: Shelf):
    (passage,) = shelf.show(shelf.hit("one", TEXT, 49, 65)).passages
    assert (passage.text, passage.start, passage.end) == (TEXT, 0, len(TEXT))


def test_windows_that_touch_become_one_passage(shelf: Shelf):
    first = shelf.hit("one", TEXT, 0, 13, window=(0, 47))
    second = shelf.hit("one", TEXT, 49, 65, window=(49, len(TEXT)))
    (passage,) = shelf.show(second, first).passages
    assert passage.text == TEXT


def test_windows_with_text_between_them_stay_apart(shelf: Shelf):
    first, second = shelf.hit("one", TEXT, 0, 13, window=(0, 13)), shelf.hit("one", TEXT, 49, 65, window=(49, 65))
    assert [passage.text for passage in shelf.show(first, second).passages] == ["One is first.", "Four is a crowd."]


def test_a_tight_budget_keeps_what_was_found_and_the_sentences_around_it(shelf: Shelf):
    (passage,) = shelf.show(shelf.hit("one", TEXT, 49, 65), budget=11).passages
    assert passage.text == "Three is company.\n\nFour is a crowd. Five is a hand."


def test_a_sentence_that_does_not_fit_is_cut_between_words(shelf: Shelf):
    (passage,) = shelf.show(shelf.hit("one", TEXT, 0, 47), query="nothing", budget=2).passages
    assert passage.text == "One is"


def test_the_best_passage_comes_first_and_the_second_best_last(shelf: Shelf):
    hits = [shelf.hit(str(rank), f"Text {rank} is here.", 0, 7) for rank in range(1, 6)]
    assembled = shelf.show(*hits)
    assert [passage.text[5] for passage in assembled.passages] == list("13542")
    assert [passage.marker for passage in assembled.passages] == [1, 2, 3, 4, 5]


def test_a_hit_whose_words_moved_or_whose_document_is_gone_is_stale(shelf: Shelf):
    edited, gone, kept = (shelf.hit(name, TEXT, 0, 13) for name in ("edited", "gone", "kept"))
    shelf.library.write("edited", "Zero is new. " + TEXT)
    shelf.library.bury("gone")
    assembled = shelf.show(edited, gone, kept)
    assert assembled.stale == 2
    assert [passage.document_id for passage in assembled.passages] == [kept.document_id]


def test_a_hit_of_an_older_revision_whose_words_still_stand_is_shown_from_the_current_one(shelf: Shelf):
    hit = shelf.hit("one", TEXT, 0, 13)
    shelf.library.write("one", "One is first. All else is new.")
    (passage,) = shelf.show(hit).passages
    assert (passage.revision, passage.text) == (2, "One is first.")


SENTENCE = st.text(alphabet="ab é漢\n#-`", min_size=1, max_size=30).map(lambda words: f"{words}. ")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(SENTENCE, min_size=1, max_size=12).map("".join),
    places=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 40)), min_size=1, max_size=5),
    budget=st.integers(1, 60),
)
def test_passages_are_exact_spans_within_the_budget_and_never_overlap(shelf, text, places, budget):
    hits = []
    for first, last, around in places:
        start, end = sorted((int(first * len(text)), int(last * len(text))))
        window = (max(0, start - around), min(len(text), end + around))
        hits.append(shelf.hit("any", text, start, end, window=window).model_copy(update={"revision": 0}))
    revision = shelf.library.warehouse.state([hits[0].document_id])[hits[0].document_id].revision
    hits = [hit.model_copy(update={"revision": revision.number}) for hit in hits]
    passages = shelf.show(*hits, query="a b", budget=budget).passages
    assert all(revision.text[each.start : each.end] == each.text for each in passages)
    assert sum(len(each.text.split()) for each in passages) <= budget
    spans = sorted((each.start, each.end) for each in passages)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="aB .!?\n#-`>|1é漢。", max_size=200))
def test_sentences_lie_in_order_and_hold_everything_but_white_space(text: str):
    spans = sentences(text)
    assert all(start < end and text[start:end] == text[start:end].strip() for start, end in spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())


def hits_of(*names: str) -> list[Hit]:
    return [a_hit(name[0], "text", 0, len(name), score=1 - place / 10) for place, name in enumerate(names)]


def test_rankings_are_fused_by_rank():
    one, two = hits_of("a", "b", "c"), hits_of("c", "d")
    assert [hit.document_id for hit in fused([one, two])] == ["c", "a", "b", "d"]
    assert fused([one]) == one


def test_a_document_fills_no_more_than_its_share():
    names = [hit.chunk_id for hit in capped(hits_of("a", "a", "a", "b"), per_document=2, limit=3)]
    assert [name[0] for name in names] == ["a", "a", "b"]


def test_age_halves_a_score_per_half_life():
    today = now()
    old, new = hits_of("a", "b")
    old = old.model_copy(update={"published_at": today.replace(year=today.year - 1)})
    new = new.model_copy(update={"published_at": today})
    assert [hit.document_id for hit in recent_first([old, new], half_life_days=30, today=today)] == ["b", "a"]
    assert recent_first([old, new], half_life_days=None, today=today) == [old, new]


def test_diversity_puts_another_text_before_a_repetition(library: Library):
    texts = ("kafka log", "kafka log", "bread flour")
    hits = [a_hit(str(place), text, 0, len(text), score=1 - place / 10) for place, text in enumerate(texts)]
    ranked = diversified(hits, encode=library.sparse.encode_passage, config=AnswerConfig(diversity=0.6), limit=2)
    assert [hit.text for hit in ranked] == ["kafka log", "bread flour"]
