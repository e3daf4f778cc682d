"""What an answer may cite: only words that stand in a shown passage and in the warehouse as it is now."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_engineering.domain.answers import Passage
from llm_engineering.domain.entities import TombstoneReason
from llm_engineering.rag.verify import Verified, verify
from tests.unit.rag.library import Library

TEXT = (
    "A tombstone is a row that says that a document is gone. It costs 40 bytes.\n\n"
    "- Withdrawn documents never come back.\n\n"
    "He said “nothing is forgotten by accident” and meant the index. Vectors of 384 numbers are kept for 30 days."
)


@pytest.fixture
def shown(library: Library) -> list[Passage]:
    return [
        passage(library, "tombstones", TEXT, marker=1),
        passage(library, "tea", "Tea is hot water with leaves.", marker=2),
    ]


def passage(library: Library, name: str, text: str, *, marker: int) -> Passage:
    document = library.write(name, text)
    state = library.warehouse.state([document])[document]
    return Passage(
        marker=marker,
        document_id=document,
        revision=1,
        title=f"On {name}",
        url=state.document.url,
        kind=state.document.kind,
        author="Ada Winter",
        text=text,
        start=0,
        end=len(text),
        score=1.0,
    )


def check(library: Library, shown: list[Passage], reply: str) -> Verified:
    terms = lambda text: frozenset(library.sparse.encode_query(text).indices)  # noqa: E731  # one line says it
    return verify(reply, shown, warehouse=library.warehouse, terms=terms)


@pytest.mark.parametrize(
    ("reply", "quote"),
    [
        ("A document that is gone leaves a tombstone [1].", "A tombstone is a row that says that a document is gone."),
        ("Withdrawn documents never come back. [1]", "Withdrawn documents never come back."),
        ("[1] Withdrawn documents never come back.", "Withdrawn documents never come back."),
        ("- Withdrawn documents never come back [1]", "Withdrawn documents never come back."),
        ("It costs 40 bytes.[1] Yes.", "It costs 40 bytes."),
        ("As I wrote, “a tombstone is a row that says” so [1].", "A tombstone is a row that says"),
        ("I wrote “nothing  is forgotten\nby accident” [1].", "nothing is forgotten by accident"),
    ],
)
def test_a_claim_is_matched_to_the_words_that_support_it(
    library: Library, shown: list[Passage], reply: str, quote: str
):
    assert [each.quote for each in check(library, shown, reply).citations] == [quote]


@pytest.mark.parametrize(
    "reply",
    [
        "Withdrawn documents never come back [3].",
        "Withdrawn documents never come back [0].",
        "Withdrawn documents never come back [2].",
        "Cats sleep all day on my desk [1].",
        "It costs 41 bytes [1].",
        "Vectors of 384 numbers are kept for 31 days [1].",
        "I wrote “documents are never really gone” about tombstones, a row that says that a document is gone [1].",
        "[1]",
        "Yes [1].",
    ],
)
def test_a_marker_without_support_is_removed_and_counted(library: Library, shown: list[Passage], reply: str):
    checked = check(library, shown, reply)
    assert (checked.citations, checked.removed) == ((), 1)
    assert "[" not in checked.text


def test_of_several_markers_the_true_ones_stay(library: Library, shown: list[Passage]):
    checked = check(library, shown, "Tea is hot water with leaves [1, 2][9]. So is soup.")
    assert checked.text == "Tea is hot water with leaves [2]. So is soup."
    assert (len(checked.citations), checked.removed) == (1, 2)


def test_a_claim_of_two_sources_may_take_a_part_from_each(library: Library, shown: list[Passage]):
    checked = check(library, shown, "Tea is hot water and withdrawn documents never come back [1][2].")
    assert [each.marker for each in checked.citations] == [1, 2]


def test_code_keeps_its_brackets_and_its_spaces(library: Library, shown: list[Passage]):
    reply = "Tea is hot water with leaves [2][7].\n\n```python\nif x:\n    a  = b[1]\n```\n\nand `c[3]`."
    checked = check(library, shown, reply)
    assert checked.text == reply.replace("[7]", "")
    assert checked.removed == 1


def test_links_are_no_markers(library: Library, shown: list[Passage]):
    reply = "See [1](https://example.org) and [the docs]."
    assert check(library, shown, reply) == Verified(text=reply, citations=())


def test_an_edited_source_is_refused_and_its_sentence_goes(library: Library, shown: list[Passage]):
    library.write("tombstones", TEXT + " More.")
    checked = check(library, shown, "Tea is hot water with leaves [2]. Withdrawn documents never come back [1].")
    assert checked.text == "Tea is hot water with leaves [2]."
    assert (checked.removed, checked.refused) == (1, 1)


@pytest.mark.parametrize("reason", TombstoneReason)
def test_a_deleted_source_takes_what_rests_on_it_along(library: Library, shown: list[Passage], reason: TombstoneReason):
    library.bury("tombstones", reason)
    reply = "Tea is hot water with leaves [2]. Withdrawn documents never come back. It costs 40 bytes [1]."
    assert check(library, shown, reply).text == "Tea is hot water with leaves [2]."


REPLIES = st.lists(
    st.one_of(
        st.sampled_from(["[1]", "[2]", "[1][2]", "[3]", ". ", "\n\n", "“", "”", "`", "```\n", "- ", "[1, 2]"]),
        st.sampled_from(sorted(set(TEXT.split()))),
        st.text(max_size=5),
    ),
    max_size=40,
).map(" ".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reply=REPLIES)
def test_whatever_a_model_says_each_citation_is_true(library: Library, shown: list[Passage], reply: str):
    checked = check(library, shown, reply)
    for citation in checked.citations:
        state = library.warehouse.state([citation.document_id])[citation.document_id]
        assert state.revision is not None
        assert state.revision.text[citation.start : citation.end] == citation.quote
        assert f"[{citation.marker}]" in checked.text
