"""A quote in its context: exactly the cited span, with the words around it and the sections above it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.entities import Author, Draft, Kind, TextFormat, TombstoneReason
from llm_engineering.domain.errors import UnknownDocument, UsageError
from llm_engineering.serving.passage import AROUND, LONGEST, passage

ANN = Author.named("Ann Lee")
URL = "https://ann.example/syncs"
TEXT = "# Syncs\r\n\r\nIntro.\n\n## Killed\n\n```\n# no heading\n```\n\nThe mark moves last.\n\nLater\n=====\n\nEnd.\n"
QUOTE = "The mark moves last."


@pytest.fixture
def warehouse(tmp_path):
    warehouse = SQLiteWarehouse(tmp_path / "warehouse.sqlite")
    warehouse.save_author(ANN)
    yield warehouse
    warehouse.close()


def keep(warehouse, text, **fields):
    draft = Draft(author_id=ANN.id, url=URL, kind=Kind.ARTICLE, platform="ann", title="Syncs", text=text, **fields)
    warehouse.record([draft])
    return draft.document_id


def shown(warehouse, document, text, quote, revision=1):
    start = text.index(quote)
    return passage(warehouse, document, revision, start, start + len(quote))


def test_a_quote_is_shown_with_what_stands_around_it(warehouse):
    told = shown(warehouse, keep(warehouse, TEXT), TEXT, QUOTE)
    assert told["before"] + told["quote"] + told["after"] == TEXT
    assert (told["quote"], told["title"], told["url"], told["published_at"]) == (QUOTE, "Syncs", URL, None)


def test_the_sections_above_a_quote_are_named_and_code_is_no_section(warehouse):
    document = keep(warehouse, TEXT)
    assert shown(warehouse, document, TEXT, QUOTE)["heading_path"] == ["Syncs", "Killed"]
    assert shown(warehouse, document, TEXT, "End.")["heading_path"] == ["Later"]


def test_code_has_no_sections(warehouse):
    text = "# a comment\nprint(1)\n"
    assert shown(warehouse, keep(warehouse, text, format=TextFormat.CODE), text, "print")["heading_path"] == []


def test_long_surroundings_are_cut_at_words(warehouse):
    text = " ".join(f"word{number}" for number in range(500))
    told = shown(warehouse, keep(warehouse, text), text, "word250")
    words = f"{told['before']}{told['quote']}{told['after']}".removeprefix("… ").removesuffix(" …").split(" ")
    assert words == text.split(" ")[int(words[0][4:]) : int(words[-1][4:]) + 1]
    assert len(told["before"]) <= AROUND + 2 and len(told["after"]) <= AROUND + 2


def test_an_older_revision_keeps_its_own_words(warehouse):
    document = keep(warehouse, TEXT)
    keep(warehouse, "Another text altogether.")
    assert shown(warehouse, document, TEXT, QUOTE)["quote"] == QUOTE


@pytest.mark.parametrize("reason", [TombstoneReason.GONE, TombstoneReason.WITHDRAWN])
def test_a_document_that_is_no_more_is_not_shown(warehouse, reason):
    document = keep(warehouse, TEXT)
    warehouse.bury([document], reason=reason)
    with pytest.raises(UnknownDocument):
        shown(warehouse, document, TEXT, QUOTE)


def test_what_was_never_here_is_unknown(warehouse):
    document = keep(warehouse, TEXT)
    for where in [(document, 7), ("nothing", 1)]:
        with pytest.raises(UnknownDocument):
            passage(warehouse, *where, 0, 1)


@pytest.mark.parametrize(("start", "end"), [(3, 3), (5, 2), (-1, 4), (0, 10**9), (0, LONGEST + 1)])
def test_a_span_that_is_no_quote_is_refused(warehouse, start, end):
    document = keep(warehouse, "x" * (LONGEST + 100))
    with pytest.raises(UsageError):
        passage(warehouse, document, 1, start, end)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), text=st.text(st.characters(blacklist_categories=()), min_size=1).filter(lambda t: t.strip()))
def test_the_quote_is_exactly_the_span_whatever_the_text(tmp_path_factory, data, text):
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    warehouse = SQLiteWarehouse(tmp_path_factory.mktemp("any") / "warehouse.sqlite")
    warehouse.save_author(ANN)
    told = passage(warehouse, keep(warehouse, text), 1, start, end)
    warehouse.close()
    assert told["quote"] == text[start:end]
    assert text.startswith(str(told["before"])) and text.endswith(str(told["after"]))
