"""How well style tells real authors apart, and one author from themselves: what a twin's figures are read against.

Four authors: the two of the Handbook's articles, the notes and documentation of simonw, the blog of jakevdp. Each author is
also split into two halves by document, between which there is nothing to tell. ``python -m benchmarks.style``.
"""

import gzip
import itertools
import json
import sys
import tarfile
from collections.abc import Iterable

from benchmarks.data import real_data
from llm_engineering.crawl.extract import read_page
from llm_engineering.domain.config import CleanConfig
from llm_engineering.domain.entities import TextFormat
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import StyleConfig
from llm_engineering.evaluation.authorship import Trait
from llm_engineering.evaluation.prose import StyleText, documents, pieces
from llm_engineering.evaluation.style import told_apart
from llm_engineering.features.clean import reading_spans, reading_text

LENGTHS = (100, 200)
FLOORS = {Trait.FUNCTION_WORDS: 0.93, Trait.CHARACTERS: 0.99}
"""Published for two authors (function words alone; character n-grams)."""
SAME = 0.15
"""How far from 0.5 one author's two halves may lie."""


def main() -> int:
    """Print the tables; exit status 1 if a floor is missed for the Handbook's two authors."""
    evaluation = EvaluationConfig(resamples=1000)
    texts = {**handbook(), "simonw": list(simonw()), "jakevdp": list(jakevdp())}
    first, second = list(texts)[:2]
    missed: list[str] = []
    print("## Style: telling authors apart\n")
    print(
        "AUC with 95 % bootstrap interval over documents, cross-fitted by document; pieces of one length, prose alone. "
        f"Published for two authors: function words {FLOORS[Trait.FUNCTION_WORDS]}, "
        f"character n-grams {FLOORS[Trait.CHARACTERS]}.\n"
    )
    print(f"| words | first | second | {' | '.join(Trait)} |\n|---:|---|---|---:|---:|---:|")
    for words in LENGTHS:
        config = StyleConfig(words=words)
        cut = {name: pieces(each, words=words) for name, each in texts.items()}
        sides = [(f"{name} ({documents(each)} docs, {len(each)})", each) for name, each in cut.items()]
        pairs = list(itertools.combinations(sides, 2))
        if words == StyleConfig().words:
            pairs += [((name, odd), ("themselves", even)) for name, each in sides for odd, even in [halves(each)]]
        for (one, left), (other, right) in pairs:
            found = {
                trait: told_apart(left, right, trait=trait, config=config, evaluation=evaluation) for trait in Trait
            }
            row = [f"{each.mean:.3f} ({each.low:.3f}–{each.high:.3f})" if each else "–" for each in found.values()]
            print(f"| {words} | {one} | {other} | {' | '.join(row)} |", flush=True)
            for trait, each in found.items():
                if each is None:
                    continue
                if other == "themselves" and each.low > 0.5 + SAME:
                    missed.append(f"{one} against themselves by {trait}: {each.low:.3f}")
                if {one.split(" (")[0], other.split(" (")[0]} == {first, second}:
                    floor = FLOORS.get(trait, 0.0)
                    missed += [f"{trait} {each.mean:.3f}, published {floor}"] if each.mean < floor else []
    print("\nPieces in parentheses after the documents; “themselves” is every other document of the author.")
    for line in missed:
        print(f"\nBelow the floor: {line}")
    return 1 if missed else 0


def halves(texts: list[StyleText]) -> tuple[list[StyleText], list[StyleText]]:
    """Every other document of one author."""
    order = {name: number for number, name in enumerate(sorted({each.document_id for each in texts}))}
    odd = [each for each in texts if order[each.document_id] % 2]
    return odd, [each for each in texts if not order[each.document_id] % 2]


def handbook() -> dict[str, list[StyleText]]:
    """The articles by author."""
    articles = json.loads((real_data("handbook_warehouse") / "ArticleDocument.json").read_text(encoding="utf-8"))
    found: dict[str, list[StyleText]] = {}
    for each in articles:
        text = reading(each["content"]["Content"] or "")
        found.setdefault(each["author_full_name"], []).append(StyleText(document_id=each["link"], text=text))
    return found


def simonw() -> Iterable[StyleText]:
    """The notes as they stand at the end of the change stream, and the pages of documentation."""
    notes: dict[str, str] = {}
    with gzip.open(real_data("til_cdc") / "events.jsonl.gz", "rt", encoding="utf-8") as events:
        for line in events:
            event = json.loads(line)
            notes.pop(event.get("old_path") or "", None)
            if event["op"] == "delete":
                notes.pop(event["path"], None)
            elif event.get("text"):
                notes[event["path"]] = event["text"]
    for path, text in notes.items():
        if path.endswith(".md") and path != "README.md":
            yield StyleText(document_id=path, text=reading(text))
    root = real_data("person_simonw")
    for file in sorted(root.rglob("*.md")):
        yield StyleText(document_id=str(file.relative_to(root)), text=reading(file.read_text(encoding="utf-8")))


def jakevdp() -> Iterable[StyleText]:
    """The posts, read from their rendered pages."""
    folder = real_data("blog_html_jakevdp")
    with tarfile.open(folder / "site_v2.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file and "blog/" in member.name and member.name.endswith("index.html"):
                page = read_page(file.read(), url=f"http://jakevdp.github.io/{member.name.removeprefix('./')}")
                yield StyleText(document_id=member.name, text=reading(page.text))


def reading(text: str) -> str:
    """The text as the product reads it, without boilerplate."""
    return reading_text(text, reading_spans(text, format=TextFormat.MARKDOWN, config=CleanConfig()))


if __name__ == "__main__":
    sys.exit(main())
