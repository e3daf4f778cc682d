"""Texts that hurt: for the properties of cleaning, normalising and chunking."""

from hypothesis import strategies as st

nasty = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="a\u0301\u200b\u00ad ️😀👩‍💻漢。ｶﾞ각ᄀ\u00a0\u2028\x00\r\n", max_size=200),
    st.text(alphabet=st.characters(categories=["Cs", "Lu", "Zs"]), max_size=50),
    st.integers(0, 400).map("x".__mul__),
    st.integers(0, 300).map("\n".__mul__),
    st.lists(st.text(alphabet="abc.!? ", max_size=40), max_size=20).map(" ".join),
)
"""Unicode of all sorts, lone surrogates included; endless words; nothing but newlines; one huge line."""

encodable = nasty.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))
"""Without lone surrogates, which no revision can hold."""

_words = st.lists(
    st.sampled_from(["word", "Two words.", "**bold**", "[link](http://x.y)", "naïve", "`code`", "a_b", "…", "漢字"]),
    min_size=1,
    max_size=30,
).map(" ".join)

_blocks = st.one_of(
    _words,
    st.builds(lambda level, text: f"{'#' * level} {text[:30]}", st.integers(1, 6), _words),
    _words.map(lambda text: f"{text[:30]}\n====="),
    st.lists(_words, min_size=1, max_size=5).map(lambda items: "\n".join(f"- {item}" for item in items)),
    st.lists(_words, min_size=1, max_size=5).map(lambda items: "\n".join(f"> {item}" for item in items)),
    st.lists(st.sampled_from(["x = 1", "    return y", "", "# no heading", "<b>"]), max_size=12).map(
        lambda code: "\n".join(["```python", *code, "```"])
    ),
    st.just("```\nnever closed\n# still code"),
    st.just("| a | b |\n|---|---|\n| c | d |"),
    st.sampled_from(
        [
            "* * *",
            "Share",
            "Subscribe",
            "Share this post",
            "13",
            "English",
            "[r]: http://x",
            "#",
            "![](x.png)",
            "\x00",
            "\u200b",
        ]
    ),
)

markdown = st.builds(
    lambda parts, end: end.join(parts),
    st.lists(_blocks, max_size=14),
    st.sampled_from(["\n\n", "\r\n\r\n", "\n", "\r\r"]),
)
"""Documents with headings, lists, code, tables, furniture; blank lines or none; every kind of line end."""
