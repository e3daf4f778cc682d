"""Front matter of Markdown files, and dates as people write them."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.crawl.frontmatter import parse_date, split_front_matter


def test_yaml_front_matter_is_read_and_the_body_starts_behind_it() -> None:
    text = "---\ntitle: Über Logs\ndate: 2024-03-01\ntags: [a, b]\n---\n\n# Body\n"

    metadata, offset, problem = split_front_matter(text)

    assert metadata == {"title": "Über Logs", "date": date(2024, 3, 1), "tags": ["a", "b"]}
    assert (text[offset:], problem) == ("# Body\n", None)


def test_toml_front_matter_is_read() -> None:
    text = '+++\ntitle = "Logs"\ndate = 2024-03-01T08:00:00Z\ndraft = true\n+++\nBody'

    metadata, offset, _ = split_front_matter(text)

    assert metadata == {"title": "Logs", "date": datetime(2024, 3, 1, 8, tzinfo=UTC), "draft": True}
    assert text[offset:] == "Body"


def test_windows_line_ends_and_a_byte_order_mark_do_not_hide_front_matter() -> None:
    text = "\ufeff---\r\ntitle: T\r\n---\r\nBody\r\n"

    metadata, offset, _ = split_front_matter(text)

    assert (metadata, text[offset:]) == ({"title": "T"}, "Body\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---",
        "Body",
        "# Title\n---\na: b\n---\n",
        "---\nnever closed: true\n",
        "---\nA ruler, then text.\n---\nMore.",
    ],
)
def test_a_text_without_front_matter_is_all_body(text: str) -> None:
    assert split_front_matter(text) == ({}, 0, None)


@pytest.mark.parametrize(
    "text",
    [
        "---\ntitle: a: b\n---\nBody",
        "---\n\tx: 1\n---\nBody",
        "+++\ntitle = \n+++\nBody",
        "---\na: &a [x]\nb: [*a, *a]\n---\nBody",
        "---\ndate: 2024-13-45\n---\nBody",
        "---\nwhen: !!python/object/apply:os.system ['true']\n---\nBody",
        "---\nx: !!bool maybe\n---\nBody",
        '---\nx: !!int ""\n---\nBody',
        "---\ndate: !!timestamp abc\n---\nBody",
        "---\nx: !!float 1" + ":1" * 400 + "\n---\nBody",
        "---\nx: 0x" + "f" * 5_000 + "\n---\nBody",
        "+++\nx = 0x" + "f" * 5_000 + "\n+++\nBody",
    ],
)
def test_front_matter_that_cannot_be_read_is_reported_and_nothing_is_lost(text: str) -> None:
    metadata, offset, problem = split_front_matter(text)

    assert (metadata, offset) == ({}, 0)
    assert problem is not None and problem.startswith("front matter cannot be read")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="-+.\n\r abc:[]{}&*!'\"\t\ufeff0", max_size=60).map(lambda text: "---\n" + text))
def test_any_text_is_split_without_an_error_and_the_body_is_its_end(text: str) -> None:
    metadata, offset, _ = split_front_matter(text)

    assert 0 <= offset <= len(text)
    assert offset or not metadata


_TAGS = st.sampled_from(
    ["bool", "int", "float", "null", "str", "binary", "timestamp", "omap", "pairs", "set", "seq", "map"]
)
_VALUES = st.text("0123456789abcxyz:._-+ []{},'\"", max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_TAGS, _VALUES), max_size=3))
def test_no_tag_on_any_value_raises(entries: list[tuple[str, str]]) -> None:
    front = "".join(f"k{number}: !!{tag} {value}\n" for number, (tag, value) in enumerate(entries))

    metadata, offset, problem = split_front_matter(f"---\n{front}---\nBody")

    assert bool(problem) == (offset == 0) and (metadata or problem or not entries)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-03-01", datetime(2024, 3, 1, tzinfo=UTC)),
        ("2024-03-01T08:15:30+02:00", datetime(2024, 3, 1, 6, 15, 30, tzinfo=UTC)),
        ("2018-09-13T10:00:00-07:00", datetime(2018, 9, 13, 17, tzinfo=UTC)),
        ("2024-05-14 07:21:09", datetime(2024, 5, 14, 7, 21, 9, tzinfo=UTC)),
        ("2024-05-14 07:21:09 UTC", datetime(2024, 5, 14, 7, 21, 9, tzinfo=UTC)),
        ("2024-05-14 07:21 +0200", datetime(2024, 5, 14, 5, 21, tzinfo=UTC)),
        ("Sun, 06 Sep 2009 16:20:00 +0000", datetime(2009, 9, 6, 16, 20, tzinfo=UTC)),
        ("March 1st, 2024", datetime(2024, 3, 1, tzinfo=UTC)),
        ("1 Mar 2024", datetime(2024, 3, 1, tzinfo=UTC)),
        ("01.03.2024", datetime(2024, 3, 1, tzinfo=UTC)),
        ("2024/03/01", datetime(2024, 3, 1, tzinfo=UTC)),
        (date(2024, 3, 1), datetime(2024, 3, 1, tzinfo=UTC)),
        (datetime(2024, 3, 1, 8), datetime(2024, 3, 1, 8, tzinfo=UTC)),
        (1709251200, datetime(2024, 3, 1, tzinfo=UTC)),
        (1709251200000, datetime(2024, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_date_becomes_a_moment_in_utc(written: object, meant: datetime) -> None:
    assert parse_date(written) == meant


@pytest.mark.parametrize("nonsense", [None, "", "soon", "2024-99-99", True, 7, [], "0000-00-00", "9" * 30])
def test_what_is_no_date_gives_none(nonsense: object) -> None:
    assert parse_date(nonsense) is None
