import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.config import CleanConfig
from llm_engineering.domain.entities import TextFormat
from llm_engineering.domain.errors import UsageError
from llm_engineering.features.clean import reading_spans, reading_text
from tests.unit.features.texts import markdown, nasty


def read(text, format=TextFormat.MARKDOWN, **config):
    return reading_text(text, reading_spans(text, format=format, config=CleanConfig(**config)))


ARTICLE = "# Why\n\nBecause **it** works — “so far”.\n\n```python\nShare this post\n```\n\nMore of it.\n\n"


@pytest.mark.parametrize(
    "furniture",
    [
        "Subscribe\n\n",
        "[Share this post](https://x.y)\n\n#### Why\n\nCopy link\n\nFacebook\n\nEmail\n\nNote\n\nOther\n\nShare\n\n",
        "SubscribeSign in\n\n",
        "**My Letter** is a reader-supported publication. If you enjoy it, consider becoming a paid subscriber.\n\n",
        "Subscribe to my newsletter!\n\n",
        "Follow me on Twitter @ada and LinkedIn.\n\n",
        "_Learn more about AI and support my work with one click — become a Medium member here:_\n\n",
        "This website uses cookies to ensure you get the best experience on our website.\n\n",
        "Listen to this article\n\n13\n\nClap\n\nShare\n\n",
        "- Share on Twitter\n- Share on Facebook\n- Email\n\n",
        "Discussion about this post\n\nComments\n\nA reader: I disagree with all of it!\n\nReady for more?\n\nSubscribe\n\n",
    ],
)
def test_furniture_around_the_article_is_dropped_wherever_it_stands(furniture):
    assert read(furniture + ARTICLE + furniture) == ARTICLE


@pytest.mark.parametrize(
    "words",
    [
        "Share\n\n",
        "13\n\n",
        "Note\n\nOther\n\nEmail\n\n",
        "Originally published at example.org.\n\n",
        "Follow me on Twitter and tell me what you use, I need inspiration.\n\n",
        "If you enjoyed this article, follow me on Mastodon for more.\n\n",
        "We use cookies to keep the session id between two requests.\n\n",
        "You can subscribe to the topic with `nats sub`.\n\n",
        "Share this post with the queue, then acknowledge it.\n\n",
        "    Share this post\n\n",
        "~~~\nSubscribe\n\nCopy link\n",
    ],
)
def test_words_that_may_be_the_authors_stay(words):
    assert read(ARTICLE + words) == ARTICLE + words


@pytest.mark.parametrize("tag", ["English", "en", "EN | DE", "Deutsch / English", "日本語"])
def test_a_trailing_language_tag_is_dropped_only_at_the_very_end(tag):
    assert read(f"{ARTICLE}{tag}\n") == ARTICLE
    assert read(f"{ARTICLE}{tag}\n\nend") == f"{ARTICLE}{tag}\n\nend"


@pytest.mark.parametrize("word", ["no", "It", "is", "So be it"])
def test_a_short_last_word_is_no_language_tag(word):
    assert read(ARTICLE + word) == ARTICLE + word


def test_the_masthead_above_the_subscribe_button_goes():
    assert read("# Ada's Letter\n\nSubscribeSign in\n\n" + ARTICLE) == ARTICLE


def test_code_is_never_touched():
    assert read("Subscribe\n\nx = 1\n", TextFormat.CODE) == "Subscribe\n\nx = 1\n"


def test_a_text_of_nothing_but_boilerplate_is_kept_whole():
    assert read("Subscribe\n\nShare this post\n") == "Subscribe\n\nShare this post\n"


def test_dropping_can_be_switched_off():
    assert read(ARTICLE + "Subscribe\n", boilerplate=False) == ARTICLE + "Subscribe\n"


def test_own_patterns_drop_whole_paragraphs_and_lines():
    text = "Hello.\n\nSent from my phone\n\nA line\nad: buy\nanother\n"
    assert read(text, patterns=("Sent from .*", "ad: .*")) == "Hello.\n\nA line\nanother\n"


def test_a_bad_pattern_names_itself():
    with pytest.raises(UsageError, match=r"clean\.patterns: '\(' is not"):
        read("text", patterns=("(",))


@given(markdown | nasty, st.sampled_from(TextFormat))
def test_spans_are_in_order_apart_and_never_blank(text, format):
    spans = reading_spans(text, format=format, config=CleanConfig())
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(set(edges))
    assert edges == [] if not text else 0 <= edges[0] < edges[-1] <= len(text)
    assert not text.strip() or all(text[start:end].strip() for start, end in spans)


def test_nothing_of_real_notes_is_dropped(data):
    with gzip.open(data / "til_cdc" / "events.jsonl.gz", "rt") as events:
        notes = {json.loads(line).get("text") or "" for line in events}
    notes |= {path.read_text() for path in (data / "person_simonw").rglob("*.md")}
    assert len(notes) > 600
    assert all(read(note) == note for note in notes)


def test_of_real_newsletters_the_furniture_goes_and_the_words_stay(data):
    rows = json.loads((data / "handbook_warehouse" / "ArticleDocument.json").read_text())
    texts = [row["content"]["Content"] for row in rows]
    kept = [read(text) for text in texts]
    assert 0.06 < 1 - sum(map(len, kept)) / sum(map(len, texts)) < 0.07
    assert not any("Copy link" in text or "Expand full" in text for text in kept)
    assert all(max(text.split("\n\n"), key=len) in shown for text, shown in zip(texts, kept, strict=True))
