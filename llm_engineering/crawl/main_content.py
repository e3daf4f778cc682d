"""What of a page is the author's text: trafilatura judges, block by block, and the page's own blocks are kept.

trafilatura works on a copy in which code is plain text; each block of the page (paragraph, heading, item, code, table)
whose words it returns is main content. What it passes over in the midst of main content (short paragraphs, formulas,
code) stays as well, unless it looks like page furniture.
"""

import copy
import logging
import re
from collections import Counter
from collections.abc import Iterator

from llm_engineering.crawl.html_tree import HEADINGS, Element, is_block, new_element, words_in
from llm_engineering.crawl.markdown import plain_text

_NEVER = ("nav", "noscript", "iframe", "select", "dialog", "style", "template")
_FURNITURE = re.compile(
    r"(?:^|[\s_-])(comments?(?:-?list|-?area|-?section)?|disqus|respond|reply|shar(?:e|ing)|social|sharedaddy|addtoany|"
    r"related|recommend(?:ed|ations)?|newsletter|subscri(?:be|ption)|signup|promo|sponsor(?:ed)?|advert(?:isement)?|ads?|"
    r"breadcrumbs?|pagination|pager|paging|sidebar|widgets?|menu|navbar|navigation|nav|cookies?|consent|toc|byline|"
    r"post-?meta|entry-?meta|meta|tags?|tag-?list|categories|author-?(?:box|bio|info|card)|popup|modal|jp-relatedposts)"
    r"(?:$|[\s_-])",
    re.IGNORECASE,
)
_CODE_WORDS = 30
_BOX_WORDS = 60
_SHINGLE = 4
_LINKED_SHARE = 0.75
_LEAST_SHARE = 0.5
_CONTAINER_SHARE = 0.9


def main_content(page: Element, *, url: str | None = None) -> Element | None:
    """A copy of the page that holds its main content alone; ``None`` where there is none."""
    tree = copy.deepcopy(page)
    for element in list(tree.iter(*_NEVER)):
        element.drop_tree()
    for field in list(tree.iter("input", "form")):
        _drop_box_of(field)
    body = tree.find("body") if tree.tag == "html" else tree
    if body is None:
        return None
    _wrap_loose_text(body)
    kept = _judged_main(tree, url)
    if kept is None:
        return None
    leaves = [leaf for leaf in _leaves(body) if leaf.tag == "hr" or plain_text(leaf) or leaf.tag == "pre"]
    chosen = _choose(leaves, kept)
    if not chosen:
        return None
    for leaf in leaves:
        if leaf not in chosen:
            leaf.drop_tree()
    return body


def _drop_box_of(field: Element) -> None:
    """Take out the small box around a form, such as "Subscribe to my newsletter"; text with a form in it stays."""
    for box in [field, *field.iterancestors("div", "section", "aside", "p", "form")][:6]:
        if box.getparent() is None or len(plain_text(box).split()) > _BOX_WORDS:
            return
        if _FURNITURE.search(f"{box.get('class', '')} {box.get('id', '')}"):
            box.drop_tree()
            return


def _judged_main(tree: Element, url: str | None) -> Element | None:
    """trafilatura's body of the page, code seen as a paragraph of words so that it is judged like one."""
    import trafilatura  # a second of imports that only pages need
    from trafilatura.settings import Document

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs every page without text as an error
    words = copy.deepcopy(tree)
    for pre in list(words.iter("pre")):
        paragraph = new_element("p")
        paragraph.text, paragraph.tail = _words_of(pre), pre.tail
        pre.getparent().replace(pre, paragraph)
    document = trafilatura.bare_extraction(words, url=url, include_comments=False, include_tables=True)
    return document.body if isinstance(document, Document) else None


def _wrap_loose_text(element: Element) -> None:
    """Give text that stands between blocks a paragraph of its own, so that every leaf block is an element."""
    if element.tag in ("pre", "table") and not _layout(element):
        return
    children = list(element)
    if not any(isinstance(child.tag, str) and is_block(child) for child in children):
        return
    run: Element | None = None
    if (element.text or "").strip():
        run = new_element("p")
        run.text, element.text = element.text, None
        element.insert(0, run)
    for child in children:
        tail, child.tail = child.tail, None
        if isinstance(child.tag, str) and is_block(child):
            run = None
            _wrap_loose_text(child)
        else:
            if run is None:
                run = new_element("p")
                child.addprevious(run)
            run.append(child)
        if tail is None:
            continue
        if run is not None:
            child.tail = tail
        elif tail.strip():
            run = new_element("p")
            run.text = tail
            child.addnext(run)


def _layout(element: Element) -> bool:
    return element.tag == "table" and any(
        True for _ in element.iter("pre", "ul", "ol", "p", "table", *HEADINGS) if _ is not element
    )


def _leaves(element: Element) -> Iterator[Element]:
    """Blocks that hold no other block; code and tables of data count as one."""
    if element.tag in ("pre", "hr") or (element.tag == "table" and not _layout(element)):
        yield element
        return
    blocks = [child for child in element if isinstance(child.tag, str) and is_block(child)]
    if not blocks:
        yield element
    for child in blocks:
        yield from _leaves(child)


def _words_of(leaf: Element) -> str:
    """What a block says; of code only its beginning, lest a long listing outweighs the prose around it."""
    text = plain_text(leaf)
    return " ".join(text.split()[:_CODE_WORDS]) if leaf.tag == "pre" else text


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(words_in(text.casefold()))


def _shingles(tokens: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [tokens[i : i + _SHINGLE] for i in range(len(tokens) - _SHINGLE + 1)]


def _choose(leaves: list[Element], judged: Element) -> set[Element]:
    stream = _tokens(" ".join(judged.itertext()))
    everything, spoken = set(_shingles(stream)), f" {' '.join(stream)} "
    segments = {_tokens("".join(part.itertext())) for part in judged.iter()} | {
        _tokens(text) for part in judged.iter() for text in (part.text, part.tail) if text
    }
    tokens = {leaf: _tokens(_words_of(leaf)) for leaf in leaves}
    returned = {
        leaf
        for leaf in leaves
        if (shingles := _shingles(tokens[leaf]))
        and sum(s in everything for s in shingles) >= _LEAST_SHARE * len(shingles)
    }
    short = {
        leaf
        for leaf in leaves
        if 0 < len(tokens[leaf]) < _SHINGLE
        and (tokens[leaf] in segments or (len(tokens[leaf]) > 1 and f" {' '.join(tokens[leaf])} " in spoken))
    }
    container = _container(returned or short, tokens)
    if container is None:
        return set()
    inside = [leaf for leaf in leaves if leaf is container or container in leaf.iterancestors()]
    chosen = returned | (short & set(inside))
    chosen -= _repeated(chosen, leaves, tokens, container)
    places = [index for index, leaf in enumerate(inside) if leaf in chosen]
    if not places:
        return chosen
    for index, leaf in enumerate(inside):
        amid = places[0] < index < places[-1]
        code_after = leaf.tag == "pre" and index > places[-1]
        if leaf not in chosen and (amid or code_after) and not _furniture(leaf, container):
            chosen.add(leaf)
    return chosen


def _repeated(
    chosen: set[Element], leaves: list[Element], tokens: dict[Element, tuple[str, ...]], container: Element
) -> set[Element]:
    """Blocks of the page's furniture that only repeat what stands in the text, such as comments that quote it."""
    once = {s for leaf in chosen if not _furniture(leaf, container) for s in _shingles(tokens[leaf])}
    return {leaf for leaf in chosen if _furniture(leaf, container) and all(s in once for s in _shingles(tokens[leaf]))}


def _container(leaves: set[Element], tokens: dict[Element, tuple[str, ...]]) -> Element | None:
    """The innermost element that holds nearly all of what was returned."""
    weights: Counter[Element] = Counter()
    total = 0
    for leaf in leaves:
        weight = len(tokens[leaf])
        total += weight
        weights[leaf] += weight
        for ancestor in leaf.iterancestors():
            weights[ancestor] += weight
    enough = [element for element, weight in weights.items() if weight >= _CONTAINER_SHARE * total]
    return max(enough, key=lambda element: sum(1 for _ in element.iterancestors()), default=None)


def _furniture(leaf: Element, container: Element) -> bool:
    """Whether the block looks like navigation, sharing, advertising or comments rather than text."""
    text = plain_text(leaf)
    linked = sum(len(plain_text(link)) for link in leaf.iter("a"))
    if leaf.tag != "pre" and text and linked > _LINKED_SHARE * len(text):
        return True
    for element in [leaf, *leaf.iterancestors()]:
        if element is container:
            break
        names = f"{element.get('class', '')} {element.get('id', '')} {element.get('role', '')}"
        if element.tag in ("aside", "form", "footer") or _FURNITURE.search(names):
            return True
    return False
