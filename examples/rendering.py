"""Posts in, a static blog out: pages with the usual chrome around the text, feed, sitemap and robots.txt."""

import calendar
import datetime
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

import yaml
from markdown_it import MarkdownIt
from pygments import highlight  # type: ignore[import-untyped]  # it ships no types
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]  # same
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]  # same

AUTHOR = "Ada Winter"
BLOG = "Working Notes"
TEMPLATES = Path(__file__).parent / "templates"
ATOM = "http://www.w3.org/2005/Atom"
SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"


@dataclass(frozen=True, kw_only=True)
class Post:
    """One article as its author wrote it; the slug is the name of its file."""

    slug: str
    title: str
    date: datetime.date
    updated: datetime.date
    tags: tuple[str, ...]
    description: str
    text: str

    @property
    def path(self) -> str:
        """Where the blog shows it."""
        return f"/posts/{self.slug}/"


def read_post(file: Path) -> Post:
    """A post from a Markdown file with front matter."""
    _, front, text = file.read_text(encoding="utf-8").split("---\n", 2)
    fields = yaml.safe_load(front)
    return Post(
        slug=file.stem,
        title=fields["title"],
        date=fields["date"],
        updated=fields.get("updated", fields["date"]),
        tags=tuple(fields["tags"]),
        description=fields["description"],
        text=text.strip() + "\n",
    )


def site(posts: Sequence[Post], *, base_url: str) -> dict[str, str]:
    """Every file of the blog by its path below the root; the same posts and address give the same bytes."""
    posts = sorted(posts, key=lambda post: (post.date, post.slug), reverse=True)
    page = _pages(posts, base_url)
    files = {
        "index.html": page("/", BLOG, f"Notes by {AUTHOR}.", f"<h1>{BLOG}</h1>\n{_teasers(posts)}"),
        "archive/index.html": page("/archive/", "Archive", "All posts by date.", _archive(posts)),
        "about/index.html": page("/about/", f"About {AUTHOR}", f"Who {AUTHOR} is.", _about()),
        "drafts/unfinished/index.html": page("/drafts/unfinished/", "Unfinished", "A draft.", _draft()),
        "404.html": page("/404.html", "Page not found", "", "<h1>Page not found</h1>\n<p>There is nothing here.</p>\n"),
        "style.css": (TEMPLATES / "style.css").read_text(encoding="utf-8"),
        "robots.txt": f"User-agent: *\nDisallow: /drafts/\n\nSitemap: {base_url}/sitemap.xml\n",
        "sitemap.xml": _sitemap(posts, base_url),
        "feed.xml": _feed(posts, base_url),
    }
    for post, newer, older in zip(posts, [None, *posts[:-1]], [*posts[1:], None], strict=True):
        files[f"posts/{post.slug}/index.html"] = page(
            post.path, post.title, post.description, _article(post, newer, older, base_url), post=post
        )
    for tag in _tags(posts):
        tagged = [post for post in posts if tag in post.tags]
        body = f"<h1>Posts tagged “{tag}”</h1>\n{_teasers(tagged)}"
        files[f"tags/{tag}/index.html"] = page(f"/tags/{tag}/", f"Posts tagged {tag}", "", body)
    return files


def markdown_to_html(text: str) -> str:
    """CommonMark with tables; code is coloured by nested spans, and links between the files become links between pages."""
    html = MarkdownIt("commonmark", {"highlight": _coloured}).enable("table").render(text)
    return re.sub(r'href="([\w-]+)\.md"', r'href="/posts/\1/"', html)


def _coloured(code: str, language: str, _attributes: str) -> str:
    # An answer that starts with <pre is taken as it is, without a second <pre><code> around it.
    spans = highlight(code, get_lexer_by_name(language or "text"), HtmlFormatter(nowrap=True))
    return f'<pre class="highlight"><code class="language-{language or "text"}">{spans}</code></pre>'


def _template(name: str, values: Mapping[str, str]) -> str:
    return Template((TEMPLATES / name).read_text(encoding="utf-8")).substitute(values)


def _pages(posts: Sequence[Post], base_url: str) -> Callable[..., str]:
    recent = "".join(
        f'<li><a href="{post.path}?utm_source=sidebar">{escape(post.title)}</a></li>\n' for post in posts[:5]
    )
    tags = "".join(f'<li><a href="/tags/{tag}/">{tag}</a></li>\n' for tag in _tags(posts))

    def page(path: str, title: str, description: str, main: str, *, post: Post | None = None) -> str:
        return _template(
            "page.html",
            {
                "head_title": escape(title if title == BLOG else f"{title} · {BLOG}"),
                "title": escape(title),
                "description": escape(description),
                "url": f"{base_url}{path}",
                "meta": _meta(post) if post else '<meta property="og:type" content="website">\n',
                "main": main,
                "recent": recent,
                "tags": tags,
            },
        )

    return page


def _meta(post: Post) -> str:
    return (
        '<meta property="og:type" content="article">\n'
        f'<meta name="author" content="{AUTHOR}">\n'
        f'<meta property="article:published_time" content="{post.date}T08:00:00Z">\n'
        f'<meta property="article:modified_time" content="{post.updated}T08:00:00Z">\n'
    )


def _article(post: Post, newer: Post | None, older: Post | None, base_url: str) -> str:
    url = base_url + post.path
    links = [
        f'<a rel="{rel}" href="{other.path}">{arrow} {escape(other.title)}</a>'
        for rel, arrow, other in (("prev", "←", older), ("next", "→", newer))
        if other
    ]
    return _template(
        "post.html",
        {
            "title": escape(post.title),
            "title_quoted": quote(post.title),
            "url_quoted": quote(url, safe=""),
            "date": post.date.isoformat(),
            "long_date": _long(post.date),
            "updated": f", updated {_long(post.updated)}" if post.updated != post.date else "",
            "minutes": str(math.ceil(len(post.text.split()) / 220)),
            "body": markdown_to_html(post.text),
            "tags": ", ".join(f'<a rel="tag" href="/tags/{tag}/">{tag}</a>' for tag in post.tags),
            "neighbours": " ".join(links),
        },
    )


def _teasers(posts: Sequence[Post]) -> str:
    return "".join(
        f'<section class="teaser"><h2><a href="{post.path}">{escape(post.title)}</a></h2>\n'
        f'<p>{escape(post.description)} <a href="{post.path}#more">Continue reading</a></p></section>\n'
        for post in posts
    )


def _archive(posts: Sequence[Post]) -> str:
    lines = "".join(f'<li>{post.date} <a href="{post.path}">{escape(post.title)}</a></li>\n' for post in posts)
    return f'<h1>Archive</h1>\n<ul>\n{lines}<li>some day: <a href="/drafts/unfinished/">Unfinished</a></li>\n</ul>\n'


def _about() -> str:
    return (
        f"<h1>About {AUTHOR}</h1>\n<p>{AUTHOR} builds retrieval systems and writes down what went wrong.</p>\n"
        '<p>Write to <a href="mailto:ada@example.org">ada@example.org</a>.</p>\n'
    )


def _draft() -> str:
    return (
        "<h1>Unfinished</h1>\n<p>This draft is closed to crawlers by robots.txt. "
        "Whoever finds these words in an index has found a crawler without manners.</p>\n"
    )


def _sitemap(posts: Sequence[Post], base_url: str) -> str:
    """The posts, and one address that robots.txt forbids, as careless generators list it."""
    root = ElementTree.Element("urlset", xmlns=SITEMAP)
    for path, changed in [*((post.path, post.updated) for post in posts), ("/drafts/unfinished/", None)]:
        entry = ElementTree.SubElement(root, "url")
        ElementTree.SubElement(entry, "loc").text = base_url + path
        if changed:
            ElementTree.SubElement(entry, "lastmod").text = changed.isoformat()
    return _xml(root)


def _feed(posts: Sequence[Post], base_url: str) -> str:
    """The newest ten posts; every other one is cut short to its summary."""
    root = ElementTree.Element("feed", xmlns=ATOM)
    _add(root, "title", BLOG)
    _add(root, "id", f"{base_url}/")
    _add(root, "link", rel="self", href=f"{base_url}/feed.xml")
    _add(root, "link", rel="alternate", href=f"{base_url}/")
    _add(root, "updated", f"{max(post.updated for post in posts)}T08:00:00Z")
    _add(_add(root, "author"), "name", AUTHOR)
    for number, post in enumerate(posts[:10]):
        entry = _add(root, "entry")
        _add(entry, "title", post.title)
        _add(entry, "id", base_url + post.path)
        _add(entry, "link", rel="alternate", href=f"{base_url}{post.path}?utm_source=feed&utm_medium=atom")
        _add(entry, "published", f"{post.date}T08:00:00Z")
        _add(entry, "updated", f"{post.updated}T08:00:00Z")
        _add(entry, "summary", post.description)
        if number % 2 == 0:
            _add(entry, "content", markdown_to_html(post.text), type="html")
    return _xml(root)


def _add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name, attributes)
    element.text = text
    return element


def _xml(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _tags(posts: Sequence[Post]) -> list[str]:
    return sorted({tag for post in posts for tag in post.tags})


def _long(day: datetime.date) -> str:
    return f"{day.day} {calendar.month_name[day.month]} {day.year}"
