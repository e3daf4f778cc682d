"""Passages are whole, exact pieces of the author's own text."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.dataset.pieces import recurring
from llm_engineering.domain.dataset_config import AuthorTerms, PassageConfig
from llm_engineering.domain.entities import (
    Author,
    Document,
    DocumentState,
    Kind,
    Revision,
    TextFormat,
    Tombstone,
    TombstoneReason,
    content_hash,
    now,
)
from tests.doubles.writing import ANN, READ, SMALL, article, passages_of, sentence

WORDS = "The author writes some ten words here about one single thing."
MORE = "And then ten words more, about another single thing, follow here."


def state(text, *, title="A title", kind=Kind.ARTICLE, format=TextFormat.MARKDOWN, metadata=None, tombstone=None):
    document = Document(id="d1", author_id=ANN.id, kind=kind, platform="x", url="https://x.org/1")
    revision = Revision(
        document_id="d1",
        number=3,
        text=text,
        content_hash=content_hash(text),
        title=title,
        format=format,
        fetched_at=now(),
        metadata=metadata or {},
    )
    return DocumentState(document=document, author=Author.named("Ann Lee"), revision=revision, tombstone=tombstone)


def texts(text, config=SMALL, furniture=frozenset(), **fields):
    return [passage.text for passage in passages_of(state(text, **fields), config, furniture)[0]]


def reasons(text, **fields):
    return [refusal.reason for refusal in passages_of(state(text, **fields))[1]]


def test_each_section_is_a_passage_under_its_path_without_the_heading():
    text = f"# A title\n\n{WORDS}\n\n## One\n\n{WORDS} {MORE}\n\n### Deep\n\n{MORE}\n"
    found, _ = passages_of(state(text))
    assert [(one.provenance.heading_path, one.text) for one in found] == [
        ((), WORDS),
        (("One",), f"{WORDS} {MORE}"),
        (("One", "Deep"), MORE),
    ]


def test_a_passage_says_where_it_stands_and_under_which_terms():
    (found,), _ = passages_of(state(f"## One\n\n{WORDS}"))
    where = found.provenance
    assert (where.document_id, where.revision, where.start, where.end) == ("d1", 3, 8, 8 + len(WORDS))
    assert (where.author, where.url, where.title, where.licence) == ("Ann Lee", "https://x.org/1", "A title", "")


def test_terms_of_the_author_stand_in_every_passage():
    from llm_engineering.dataset.passages import passages

    one = state(WORDS)
    (found,), _ = passages(one, READ(one), config=SMALL, terms=AuthorTerms(licence="cc-by-4.0", consent=True))
    assert (found.provenance.licence, found.provenance.consent) == ("cc-by-4.0", True)


@pytest.mark.parametrize("kind", [Kind.POST, Kind.NOTE])
def test_a_short_post_or_note_is_one_passage_with_its_headings(kind):
    text = f"# A title\n\n{WORDS}\n\n## And\n\n{MORE}"
    assert texts(text, kind=kind) == [f"{WORDS}\n\n## And\n\n{MORE}"]


def test_a_long_section_is_divided_at_paragraphs_into_parts_of_about_equal_length():
    paragraphs = [sentence("kafka", number) for number in range(6)]
    found = texts("\n\n".join(paragraphs))
    assert len(found) > 1
    assert [paragraph for part in found for paragraph in part.split("\n\n")] == paragraphs


def test_no_passage_begins_or_ends_inside_a_code_block():
    code = "```python\n" + "\n\n".join(f"first_{n} = second_{n} + third_{n}" for n in range(12)) + "\n```"
    text = f"{sentence('one')}\n\nLook at this:\n\n{code}\n\n{sentence('two')}\n\n{sentence('three')}"
    found = texts(text)
    assert len(found) > 1
    assert all(part.count("```") % 2 == 0 for part in found)
    assert any(f"Look at this:\n\n{code}" in part for part in found)


def test_no_passage_begins_or_ends_inside_a_list_item():
    items = "\n".join(f"- {sentence('item', n)}\n\n  More of the same: {sentence('more', n)}" for n in range(4))
    found = texts(f"{sentence('one')}\n\n{items}")
    assert len(found) > 1
    assert all(not part.lstrip().startswith("More of the same") for part in found)
    assert sum(part.count("More of the same") for part in found) == 4


def test_page_furniture_ends_a_passage_and_is_in_none():
    text = f"{WORDS}\n\nShare this post\n\nFacebook\n\nEmail\n\n{MORE}"
    assert texts(text) == [WORDS, MORE]


def test_a_paragraph_that_recurs_in_three_writings_is_furniture():
    advert = "Buy my course on everything that one could ever want to know."
    writings = {name: READ(state(f"{sentence(name)}\n\n{advert}")) for name in ("a", "b", "c")}
    assert recurring(writings) == {advert.casefold()}
    assert not recurring({name: writings[name] for name in ("a", "b")})
    assert texts(f"{WORDS}\n\n{advert}\n\n{MORE}", furniture=recurring(writings)) == [WORDS, MORE]


@pytest.mark.parametrize("heading", ["References", "Related articles", "Table of Contents:", "Images"])
def test_a_section_that_only_lists_things_is_refused_as_furniture(heading):
    assert reasons(f"## {heading}\n\n{WORDS}") == ["furniture"]


def test_what_is_too_short_or_cannot_be_divided_is_refused_with_its_reason():
    assert reasons("## One\n\nFour words stand here.") == ["too-short"]
    assert reasons(" ".join(f"word{n}" for n in range(200))) == ["too-long"]


def test_captions_dates_and_labels_at_the_edges_are_left_out():
    assert texts(f"Ann Lee\n\nJun 12, 2024\n\n{WORDS}\n\nImage by author") == [WORDS]


def test_a_heading_that_was_wrapped_is_read_whole():
    heading = "# DML: 8 types of MLOps tools that must be in your toolbelt to be a successful\nMLOps engineer"
    (found,), _ = passages_of(state(f"#{heading}\n\n{WORDS}"))
    assert found.provenance.heading_path[0].endswith("successful MLOps engineer")


def test_what_stands_before_a_passage_is_kept_up_to_some_sentences_and_never_across_furniture():
    text = f"## One\n\n{WORDS} {MORE}\n\n## Two\n\n{WORDS}\n\n* * *\n\n{MORE}"
    first, second, third = passages_of(state(text))[0]
    assert (first.before, third.before) == ("## One", "")
    assert second.before == f"{MORE}\n\n## Two"


def test_documented_functions_of_a_python_file_are_passages():
    code = '''import os


class Box:
    """A box."""

    @property
    def size(self) -> int:
        """How many things are in the box, counted anew each time that someone asks for it."""
        return len(os.listdir(self.path))


def plain(a, b):
    return a + b
'''
    (found,), _ = passages_of(state(code, kind=Kind.REPOSITORY, format=TextFormat.CODE, metadata={"path": "box.py"}))
    assert found.text.startswith("@property\n    def size") and found.text.endswith("(self.path))")
    assert found.provenance.heading_path == ("box.py", "Box.size(self)")


@pytest.mark.parametrize(
    ("path", "code", "reason", "detail"),
    [
        ("add.go", "// Add adds.\nfunc Add(a, b int) int { return a + b }\n", "cannot-be-parsed", ".go files"),
        ("lib.rs", "/// Adds.\nfn add(a: i32) -> i32 { a }\n", "cannot-be-parsed", ".rs files"),
        ("Makefile", "all:\n\techo\n", "cannot-be-parsed", "such files"),
        ("old.py", 'def add(a):\n    """Adds."""\n    print "two"\n', "cannot-be-parsed", "no Python of today, line 3"),
        ("bare.py", "def add(a, b):\n    return a + b\n", "no-documented-function", "bare.py"),
        ("bare.ts", "let x = 1;\n", "no-documented-function", "bare.ts"),
        ("empty.py", "", "no-documented-function", "empty.py"),
    ],
    ids=["Go", "Rust", "make", "Python 2", "Python", "TypeScript", "nothing"],
)
def test_a_file_of_code_without_a_passage_is_one_refusal_that_says_why(path, code, reason, detail):
    found, (refusal,) = passages_of(state(code, kind=Kind.REPOSITORY, format=TextFormat.CODE, metadata={"path": path}))
    assert (found, refusal.reason) == ([], reason)
    assert detail in refusal.detail


def test_documented_functions_of_a_file_with_braces_are_passages():
    comment = '/**\n * Adds two numbers, and says so in a string: "}" is no end.\n */\n'
    code = f'{comment}export function add(a, b) {{\n  if (a) {{ return "}}" + b; }}\n  return a + b;\n}}\nlet x = 1;\n'
    config = PassageConfig(min_words=5)
    (found,), _ = passages_of(
        state(code, kind=Kind.REPOSITORY, format=TextFormat.CODE, metadata={"path": "add.ts"}), config
    )
    assert found.text == code[: code.index("let x")].rstrip()


@pytest.mark.parametrize(
    "text", ["# Only a heading", "Image by author\n\n12", "---"], ids=["heading", "caption", "rule"]
)
def test_a_document_that_says_nothing_is_one_refusal(text):
    found, (refusal,) = passages_of(state(text))
    assert (found, refusal.reason) == ([], "too-short")


def test_a_deleted_document_has_no_passages():
    gone = Tombstone(document_id="d1", reason=TombstoneReason.GONE, at=now())
    assert passages_of(state(WORDS, tombstone=gone)) == ([], [])


LINES = st.sampled_from(
    [
        "# Head",
        "### Deeper *head*",
        "Some words of prose, with a comma and a full stop.",
        "- an item of a list\n\n  and its second paragraph",
        "1. first\n2. second",
        "```\ncode = 1\n\nmore = 2\n```",
        "    indented = code",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "> quoted words of somebody",
        "* * *",
        "Share this post",
        "Copy link",
        "\u2028 odd \u0085 marks \ud800 here",
        "[a]: https://x.org",
        "Ends with a colon:",
    ]
)


@given(st.lists(LINES, max_size=30), st.sampled_from(["\n\n", "\n", "\r\n\r\n"]), st.sampled_from(list(Kind)))
@settings(max_examples=150, deadline=None)
def test_passages_are_exact_ordered_and_apart_whatever_the_text(lines, between, kind):
    text = between.join(lines)
    one = state(text, kind=kind)
    found, refusals = passages_of(one, PassageConfig(min_words=1, max_words=12, before_words=10))
    spans = [(passage.provenance.start, passage.provenance.end) for passage in found]
    assert all(text[start:end] == passage.text for (start, end), passage in zip(spans, found, strict=True))
    assert all(passage.text.splitlines()[0].strip() and passage.text == passage.text.rstrip() for passage in found)
    assert spans == sorted(spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert all(text.find(passage.before) >= 0 for passage in found)
    assert {refusal.document_id for refusal in refusals} <= {"d1"}


def test_the_same_document_has_the_same_passages():
    one = state(article("kafka", "bread"))
    assert passages_of(one) == passages_of(one)


def test_passages_of_real_articles_are_exact_and_hold_no_furniture_of_the_page(data):
    records = json.loads((data / "handbook_warehouse" / "ArticleDocument.json").read_text(encoding="utf-8"))
    furniture = re.compile(
        r"^(?:Share this post|Copy link|Privacy ∙ Terms.*|Discussion about this post)$", re.MULTILINE
    )
    for record in records[2:76:9]:
        one = state(record["content"]["Content"], title=record["content"]["Title"])
        found, _ = passages_of(one, PassageConfig(max_words=400))
        for passage in found:
            where = passage.provenance
            assert one.revision.text[where.start : where.end] == passage.text
            assert not furniture.search(passage.text)
