import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.domain.entities import TextFormat
from llm_engineering.features.normalise import normalise
from tests.unit.features.texts import markdown, nasty


@pytest.mark.parametrize(
    ("written", "found_as"),
    [
        ("𝗯𝗼𝗹𝗱 and 𝘪𝘵𝘢𝘭𝘪𝘤", "bold and italic"),
        ("ﬁne ｆｕｌｌ-width", "fine full-width"),
        ("cafe\u0301 ｶﾞ 각", "café ガ 각"),
        ("so\u00adft zero\u200bwidth \ufeffmark", "soft zerowidth mark"),
        ("“quoted” – ‘it’s’ — done…", "\"quoted\" - 'it's' - done..."),
        ("two  spaces\tand\u00a0more\nwrapped line", "two spaces and more wrapped line"),
        ("⚖️ scales", "⚖ scales"),
    ],
)
def test_characters_are_unified(written, found_as):
    assert normalise(written).text == found_as


@pytest.mark.parametrize(
    ("written", "found_as"),
    [
        ("# Head #\n\ntext", "Head\ntext"),
        ("Head\n====\ntext", "Head\ntext"),
        ("**bold**, *it*, __strong__, _soft_, ~~gone~~", "bold, it, strong, soft, gone"),
        ("snake_case, 2*3, a * b, _id", "snake_case, 2*3, a * b, _id"),
        ('[text](https://a.b/c_(d) "t") and [x][ref]\n\n[ref]: https://e.f', "text and x"),
        ("see a[0][1] and [1]", "see a[0][1] and [1]"),
        ("[![a *cat*](i.png)](https://big)", "a cat"),
        ("- one\n- two\n\n> said\n> so", "one\ntwo\nsaid so"),
        ("use `x  = *y*` here", "use x  = *y* here"),
        ("|a|b|\n|-|-|\n|c|d|", "a b c d"),
        ("\\*stars\\* &amp; H<sub>2</sub>O<br>next <!-- no\n --> end", "*stars* & H2O next end"),
        ("a\n\n***\n\nb", "a\nb"),
    ],
)
def test_marks_that_are_no_content_are_left_out(written, found_as):
    assert normalise(written).text.strip() == found_as


def test_code_stays_as_it_is():
    source = "def f(x):\n    return  “x” * 2  # 𝗯𝗼𝗹𝗱\n"
    assert normalise(source, format=TextFormat.CODE).text == source
    assert source in normalise(f"Before:\n\n```python\n{source}```\n\nafter").text


def test_plain_text_keeps_its_stars():
    assert normalise("* not *markdown*", format=TextFormat.TEXT).text == "* not *markdown*"


def test_text_with_nothing_to_do_is_returned_without_copying():
    view = normalise("Plain words, nothing else.")
    assert view.text == "Plain words, nothing else."
    assert isinstance(view.offsets, range)


@given(markdown | nasty, st.sampled_from(TextFormat))
def test_every_character_maps_back_in_order(text, format):
    view = normalise(text, format=format)
    assert len(view.offsets) == len(view.text)
    assert list(view.offsets) == sorted(view.offsets)
    assert all(0 <= offset < len(text) for offset in view.offsets)


@given(markdown | nasty, st.data())
def test_views_of_neighbouring_spans_make_up_the_view(text, data):
    cut = data.draw(st.integers(0, len(text)))
    view = normalise(text)
    pieces = view.between(0, cut) + view.between(cut, len(text))
    assert "".join(pieces.split()) == "".join(view.text.split())


@given(nasty)
def test_plain_text_becomes_nfkc_and_normalising_again_changes_no_word(text):
    once = normalise(text, format=TextFormat.TEXT).text
    assert unicodedata.is_normalized("NFKC", once)
    assert normalise(once, format=TextFormat.TEXT).text.split() == once.split()
    assert "  " not in once


@given(st.text(alphabet="abc déf", max_size=60))
def test_letters_come_from_where_they_stand(text):
    view = normalise(text, format=TextFormat.TEXT)
    assert all(text[offset] == letter for letter, offset in zip(view.text, view.offsets, strict=True))


@pytest.mark.parametrize(
    "mark", ["[", "](", "](<", "<!--", "<a ", "`` `", "_a ", '[a](b "', "[a][", "](x(a)", "a\u0301", "*a"]
)
def test_hostile_repetition_is_read_in_one_go(mark):
    assert normalise(mark * 20_000).text is not None  # quadratic behaviour would run into the suite's time limit


@settings(max_examples=25)
@given(nasty)
def test_what_is_searched_can_always_be_encoded(text):
    normalise(text).text.encode()
