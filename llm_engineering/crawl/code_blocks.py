"""Code on pages as a reader would copy it, whatever a highlighter has made of it."""

import re
from collections.abc import Iterator

from llm_engineering.crawl.html_tree import SILENT, Element, is_unseen

_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language-|lang-|highlight-source-|highlight-|brush:\s*|sourceCode\s+)([A-Za-z0-9+#_.-]+)"
)
_FIGURE_LANGUAGE = re.compile(r"(?:^|\s)highlight\s+([A-Za-z0-9+#-]+)\s*$")
_NO_LANGUAGE = frozenset({"none", "text", "plaintext", "default", "plain", "txt", "notranslate", "nohighlight", "auto"})
_CODE_CELL = re.compile(r"\b(blob-code|js-file-line)\b")


def code_of(pre: Element) -> str:
    """The code inside ``<pre>``: without line numbers, ``<br>`` as newline, empty lines at either end left out."""
    code = "".join(_parts(pre)).replace("\r\n", "\n").replace("\r", "\n")
    return code.removeprefix("\n").rstrip("\n")


def _parts(element: Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if isinstance(child.tag, str):
            if child.tag == "br":
                yield "\n"
            elif child.tag != "button" and child.tag not in SILENT and not is_unseen(child):
                yield from _parts(child)
        yield child.tail or ""


def code_of_table(table: Element) -> str | None:
    """The code in a table that has one row per line, as GitHub embeds it; ``None`` for any other table."""
    cells = [cell for cell in table.iter("td") if _CODE_CELL.search(cell.get("class", ""))]
    return "\n".join(code_of(cell) for cell in cells) if cells else None


def code_language(pre: Element) -> str:
    """The language that a highlighter noted on the code, its ``<code>`` or one of the elements around it, or ""."""
    around = [
        outer for _, outer in zip(range(8), pre.iterancestors("div", "figure", "td", "tr", "table"), strict=False)
    ]
    for element in [pre, *pre.iter("code"), *around]:
        names = element.get("class", "")
        named = next((element.get(name) for name in _LANGUAGE_ATTRIBUTES if element.get(name)), None)
        match = _LANGUAGE.search(names) or (_FIGURE_LANGUAGE.search(names) if element.tag == "figure" else None)
        language = (named or (match.group(1) if match else "")).strip().lower()
        if re.fullmatch(r"[a-z0-9+#_.-]{1,30}", language) and language not in _NO_LANGUAGE:
            return re.sub(r"^i?python3$", "python", language)
    return ""


_LANGUAGE_ATTRIBUTES = ("data-lang", "data-language", "data-code-block-lang")


def fence(text: str, *, least: int) -> str:
    """A run of backticks longer than any in the text."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])
