"""Pages that are served like documents but are none."""

import pytest

from llm_engineering.crawl.extract import Page, looks_like_error_page


def said(title: str, text: str = "", *, repeat: int = 1) -> Page:
    text = " ".join([text] * repeat)
    return Page(title=title, text=text, word_count=len(text.split()))


@pytest.mark.parametrize(
    ("title", "text", "reason"),
    [
        ("404", "Nothing.", "soft-404"),
        ("Page not found", "", "soft-404"),
        (
            "Page Not Found – My Blog",
            "It looks like nothing was found at this location. Maybe try a search?",
            "soft-404",
        ),
        ("Oops!", "We can't find the page that you're looking for.", "soft-404"),
        ("My Blog", "Sorry, the page you requested could not be found.", "soft-404"),
        ("Seite nicht gefunden", "Zur Startseite", "soft-404"),
        ("Error 404 (Not Found)!!1", "That’s an error.", "soft-404"),
        ("Just a moment...", "Enable JavaScript and cookies to continue", "bot-check"),
        ("Sign in to LinkedIn", "Email Password", "login-wall"),
        ("My Blog", "Please log in to continue.", "login-wall"),
        ("example.com", "This domain may be for sale. Related searches", "parked-domain"),
        ("React App", "You need to enable JavaScript to run this app.", "needs-javascript"),
        ("Before you continue to YouTube", "We use cookies and data to", "cookie-wall"),
        ("403 Forbidden", "nginx", "access-denied"),
        ("A title", "", "empty"),
        ("", "", "empty"),
    ],
)
def test_a_page_that_is_no_document_is_told(title: str, text: str, reason: str) -> None:
    assert looks_like_error_page(said(title, text), 200) == reason


@pytest.mark.parametrize(
    ("title", "text", "repeat"),
    [
        ("How to design a 404 page", "Say what happened and what to do.", 5),
        ("Page not found", "An essay on absence, and on what we look for.", 60),
        ("404: how I broke production", "It was a Friday.", 30),
        ("404 pages in nginx", "Set error_page 404 /404.html; the page is served with the right status.", 1),
        ("Sign in with Apple: a review", "I tried it for a month.", 10),
        ("Caching", "The page was not cached by Varnish, because of cookies. The fix: unset them.", 1),
        ("Gone fishing", "Back on Monday.", 1),
        ("🎉", "We had a party.", 1),
        ("", "A note without a title.", 1),
        ("Just a moment of silence", "I was thinking of you.", 1),
    ],
)
def test_an_article_about_error_pages_is_a_document(title: str, text: str, repeat: int) -> None:
    assert looks_like_error_page(said(title, text, repeat=repeat), 200) is None


def test_an_error_status_is_a_reason_of_its_own() -> None:
    assert looks_like_error_page(said("A title", "With text."), 404) == "http-404"
