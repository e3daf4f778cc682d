"""The page in a real Chromium: ask, watch, check the sources, judge; by keyboard, on a phone, and against what is hostile."""

import hashlib
import importlib.util
import json
import os
import re

import pytest

from llm_engineering.adapters.playwright import find_chromium
from llm_engineering.domain.config import ServiceConfig
from llm_engineering.domain.errors import UnknownAuthor, UsageError
from llm_engineering.serving.app import create_app
from tests.doubles.page_service import PageService, a_citation, a_passage, an_answer, event, problem
from tests.doubles.twin_service import FakeTwin, served
from tests.doubles.web import Answer

FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium():
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed (extra browser)")
    try:
        program = find_chromium()
    except UsageError as error:
        pytest.skip(str(error))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=program, headless=True, args=FLAGS, chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        browser.close()


@pytest.fixture
def service():
    with PageService() as service:
        yield service
        service.go.set()


class Reader:
    """A person in front of the page, who also notes what the browser complains about and where it goes."""

    def __init__(self, browser, service, **context):
        self.service = service
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints, self.visited = [], []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("request", lambda request: self.visited.append(request.url))
        self.page.goto(service.url)

    def asks(self, question="When must the mark be durable?"):
        self.page.get_by_label("Your question").fill(question)
        self.page.get_by_role("button", name="Ask", exact=True).click()

    def waits(self, *states):
        self.page.wait_for_function("states => states.includes(document.body.dataset.state)", arg=list(states))

    def answered(self, question="When must the mark be durable?"):
        self.asks(question)
        self.waits("done", "unknown")
        self.page.locator("#sources[aria-busy=false]").wait_for(state="attached")  # every quote has its context
        return self.page

    def reads(self):
        """The answer, a no-break space taken for a space."""
        return self.page.locator("#answer").inner_text().replace("\xa0", " ")

    def focused(self):
        return self.page.evaluate("document.activeElement.id || document.activeElement.textContent")


@pytest.fixture
def open_page(chromium, service):
    readers = []

    def open_one(**context):
        readers.append(Reader(chromium, service, **context))
        return readers[-1]

    yield open_one
    for reader in readers:
        reader.context.close()


@pytest.fixture
def reader(open_page):
    return open_page()


def test_the_answer_grows_while_it_is_written(service, reader):
    service.answers(
        an_answer("It must be durable [1].", a_citation()), pieces=["It must", " be durable [1]."], hold=True
    )
    reader.asks()
    reader.waits("streaming")
    assert reader.reads() == "It must"
    assert reader.page.get_by_role("status").first.inner_text() == "Writing from 1 passage…"
    assert reader.page.locator("#answer").get_attribute("aria-busy") == "true"
    service.go.set()
    reader.waits("done")
    assert reader.reads() == "It must be durable 1."
    assert reader.page.locator("#answer").get_attribute("aria-busy") == "false"


def test_the_verified_answer_takes_the_place_of_what_was_streamed(service, reader):
    service.answers(an_answer("Durable [1].", a_citation(), removed_markers=1), pieces=["Durable [1], says Bob [2]."])
    page = reader.answered()
    assert reader.reads() == "Durable 1."
    assert "1 unproven citation removed" in page.locator("#cost").inner_text()


def test_a_source_shows_title_date_link_and_the_quote_marked_in_its_context(reader):
    page = reader.answered()
    item = page.locator("#source-1")
    link = item.get_by_role("link", name="What a watermark is for")
    assert (link.get_attribute("href"), link.get_attribute("rel")) == (
        "https://ada.example/watermark",
        "noopener noreferrer",
    )
    assert item.locator("mark").inner_text() == "the mark must be durable before anything is retired"
    assert item.locator("blockquote").inner_text() == "".join(
        a_passage()[part] for part in ("before", "quote", "after")
    )
    told = item.locator(".particulars").inner_text()
    assert "March 14, 2023" in told and "Watermarks › Order of writes" in told


def test_two_quotes_of_one_source_stand_together(service, reader):
    service.answers(an_answer("Twice [1].", a_citation(), a_citation(quote="a second one", start=400)))
    page = reader.answered()
    assert page.locator(".source").count() == 1
    assert page.locator(".source mark").count() == 2


def test_a_marker_jumps_to_its_source_and_back(service, reader):
    service.answers(an_answer("One [1], two [2, 3].", a_citation(1), a_citation(2), a_citation(3)))
    page = reader.answered()
    page.get_by_role("button", name="Source 3").click()
    assert reader.focused() == "source-3"
    page.locator("#source-3").get_by_role("button", name="Back to the answer").click()
    assert reader.focused() == "3"


def test_a_marker_without_a_source_is_text(service, reader):
    service.answers(an_answer("As in [9] and `[1]`, see [1].", a_citation()))
    page = reader.answered()
    assert page.locator("button.marker").count() == 1
    assert reader.reads() == "As in [9] and [1], see 1."


def test_code_in_an_answer_keeps_its_lines(service, reader):
    service.answers(an_answer("So [1]:\n\n```python\nif a:\n    b[1]\n```\n\nDone.", a_citation()))
    page = reader.answered()
    assert page.locator("#answer pre").text_content() == "if a:\n    b[1]"
    assert page.locator("#answer p").all_inner_texts() == ["So\xa01:", "Done."]


@pytest.mark.parametrize("url", ["file:///home/ada/notes/a.md", "javascript:alert(1)", "notes/a.md"])
def test_an_address_that_is_not_http_is_shown_but_not_linked(service, reader, url):
    service.answers(an_answer("Durable [1].", a_citation(url=url)))
    page = reader.answered()
    assert page.locator("#source-1 a").count() == 0
    assert url in page.locator("#source-1").inner_text()


def test_a_source_that_has_gone_meanwhile_says_so(service, reader):
    service.passages["document-1"] = problem(404, title="No such passage")
    page = reader.answered()
    page.get_by_text("This source has changed or gone since the answer was made.").wait_for()
    assert page.locator("#source-1 mark").count() == 1


def test_not_knowing_looks_different_from_an_answer(service, reader):
    service.answers(an_answer("I have not written about that."))
    page = reader.answered()
    assert page.locator("body").get_attribute("data-state") == "unknown"
    assert "does not know" in page.locator("#notice").inner_text()
    assert page.locator("#evidence").is_hidden()


def test_everything_works_from_the_keyboard_alone(service, reader):
    keyboard = reader.page.keyboard
    assert reader.focused() == "query"
    keyboard.type("When must the mark be durable?")
    keyboard.press("Control+Enter")
    reader.waits("done")
    order = []
    for _ in range(9):
        keyboard.press("Tab")
        order.append(reader.focused())
    assert order == [
        "Ask",
        "anew",
        "Options",
        "1",
        "up",
        "down",
        "What a watermark is for",
        "Back to the answer",
        order[-1],
    ]
    reader.page.locator("button.marker").focus()
    keyboard.press("Enter")
    assert reader.focused() == "source-1"
    reader.page.locator("#up").focus()
    keyboard.press("Space")
    reader.page.get_by_text("Kept. Thank you.").wait_for()
    assert service.bodies("/feedback")[0]["vote"] == "up"


def test_escape_stops_the_answer_and_keeps_what_was_written(service, reader):
    service.answers(an_answer("It must be durable.", a_citation()), pieces=["It must", " be durable."], hold=True)
    reader.asks()
    reader.waits("streaming")
    reader.page.keyboard.press("Escape")
    reader.waits("stopped")
    service.go.set()
    assert reader.reads() == "It must"
    assert reader.page.get_by_role("button", name="Stop").is_hidden()
    assert reader.focused() == "query"


def test_a_new_question_takes_the_place_of_the_one_under_way(service, reader):
    service.answers(an_answer("The first."), pieces=["The", " first."], hold=True)
    reader.asks()
    reader.waits("streaming")
    service.answers(an_answer("The second [1].", a_citation()))
    reader.answered("Another?")
    service.go.set()
    assert reader.reads() == "The second 1."


def test_author_and_number_of_passages_go_with_the_question(service, reader):
    page = reader.page
    page.get_by_text("Options").click()
    page.get_by_label("Author").fill("Ada Winter")
    page.get_by_label("Passages to read").fill("3")
    reader.answered("Why?")
    assert service.bodies("/rag") == [{"query": "Why?", "stream": True, "author": "Ada Winter", "k": 3}]


def test_kind_and_period_limit_the_search_from_the_keyboard_alone(service, reader):
    keyboard = reader.page.keyboard
    keyboard.type("What changed?")
    keyboard.press("Tab")
    keyboard.press("Tab")
    assert reader.focused() == "Options"
    keyboard.press("Enter")
    for name in ("author", "kind"):
        keyboard.press("Tab")
        assert reader.focused() == name
    keyboard.type("posts")
    reader.page.locator("#since").fill("2023-01-01")
    reader.page.locator("#until").fill("2023-12-31")
    keyboard.press("Enter")
    reader.waits("done")
    (body,) = service.bodies("/rag")
    assert body["filters"] == {"kind": "post", "since": "2023-01-01", "until": "2024-01-01"}


def test_a_period_that_ends_before_it_begins_is_not_sent_and_is_shown(service, reader):
    page = reader.page
    page.get_by_text("Options").click()
    page.get_by_label("Published from").fill("2024-02-01")
    page.get_by_label("Published until").fill("2023-02-01")
    page.get_by_text("Options").click()
    reader.asks()
    page.get_by_label("Published until").wait_for()
    assert reader.focused() == "until"
    assert service.bodies("/rag") == []


def test_a_follow_up_goes_with_what_was_said_before_and_replaces_its_question(service, reader):
    reader.answered("When must the mark be durable?")
    service.answers(an_answer("Before anything is retired [1].", a_citation()))
    reader.page.locator("#query").focus()
    reader.page.keyboard.type("And why?")
    reader.page.keyboard.press("Control+Enter")
    reader.page.get_by_text("Earlier in this conversation").wait_for()
    reader.waits("done")
    first, second = service.bodies("/rag")
    assert "history" not in first
    said = [("user", "When must the mark be durable?"), ("assistant", "It must be durable.")]
    assert (second["query"], [(turn["role"], turn["content"]) for turn in second["history"]]) == ("And why?", said)
    reader.page.locator("#turns summary").click()
    assert "It must be durable." in reader.page.locator("#turns").inner_text()
    assert reader.page.locator("#asked").inner_text() == "And why?"


def test_a_new_conversation_forgets_what_was_said(service, reader):
    page = reader.answered("First?")
    page.get_by_role("button", name="New conversation").click()
    assert (page.locator("#result").is_hidden(), page.locator("#query").input_value()) == (True, "")
    assert reader.focused() == "query"
    reader.answered("Second?")
    assert [body.get("history") for body in service.bodies("/rag")] == [None, None]
    assert page.locator("#earlier").is_hidden()


def test_a_thumb_down_with_a_better_answer_is_recorded(service, reader):
    page = reader.answered("Why?")
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_label("A better answer, if you know one (optional)").fill("Because of crashes.")
    page.get_by_role("button", name="Send it").click()
    page.get_by_text("Kept, with your better answer.").wait_for()
    kept = {
        "request_id": "request-7",
        "query": "Why?",
        "answer": "It must be durable [1].",
        "document_ids": ["document-1"],
    }
    assert service.bodies("/feedback") == [
        {**kept, "vote": "down"},
        {**kept, "vote": "down", "better_answer": "Because of crashes."},
    ]


def test_a_vote_that_was_not_kept_says_so(service, reader):
    service.routes["/feedback"] = problem(404, title="No such document", detail="A source was withdrawn.")
    page = reader.answered()
    page.locator("#up").click()
    page.get_by_text("Not kept: A source was withdrawn.").wait_for()
    assert page.locator("#up").get_attribute("aria-pressed") == "false"


def test_the_key_is_asked_for_only_when_the_service_wants_one_and_stays_in_the_tab(service, reader):
    page = reader.page
    assert page.locator("#access").is_hidden()
    service.key = "k3y"
    reader.asks()
    page.get_by_label("API key").fill("k3y")
    page.keyboard.press("Enter")
    reader.waits("done")
    assert page.locator("#access").is_hidden()
    assert page.evaluate("[Object.values(sessionStorage), Object.values(localStorage), document.cookie]") == [
        ["k3y"],
        [],
        "",
    ]
    assert "k3y" not in page.content()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            problem(422, title="Unprocessable Entity", errors=[{"at": "body.k", "problem": "must be 1 or more"}]),
            ["That cannot be asked", "body.k: must be 1 or more", "Change the question", "request-7"],
        ),
        (
            problem(503, detail="The queue is full", retry_after=7),
            ["cannot answer right now", "The queue is full", "Try again in 7 s", "request-7"],
        ),
        (Answer("<h1>Bad gateway</h1>", status=502, headers={"X-Request-ID": "r-8"}), ["model failed", "r-8"]),
        (Answer("<h1>hello</h1>"), ["could not read the answer"]),
    ],
)
def test_an_error_says_what_happened_and_what_to_do(service, reader, answer, words):
    service.routes["/rag"] = answer
    reader.asks()
    reader.waits("error")
    told = reader.page.get_by_role("alert").inner_text()
    assert [word for word in words if word not in told] == []


def test_trying_again_after_an_error_asks_the_same_question(service, reader):
    good = service.routes["/rag"]
    service.routes["/rag"] = problem(503, title="Busy")
    reader.asks("Why?")
    reader.waits("error")
    service.routes["/rag"] = good
    reader.page.get_by_role("button", name="Try again").click()
    reader.waits("done")
    assert reader.page.get_by_role("alert").count() == 0
    assert [body["query"] for body in service.bodies("/rag")] == ["Why?", "Why?"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([event("text", {"text": "It"}), event("error", {"detail": "It broke off", "status": 503})], "broke off"),
        ([event("text", {"text": "It"})], "The answer broke off"),
        ([b": hello\n\n", b"event: te", b"xt\r\ndata: {}\r\n\r\nevent: done\ndata: {oops\n\n"], "could not read"),
    ],
)
def test_a_stream_that_fails_midway_ends_in_an_error(service, reader, parts, words):
    service.streams(lambda: iter(parts))
    reader.asks()
    reader.waits("error")
    assert words in reader.page.get_by_role("alert").inner_text()


def test_a_service_that_is_down_is_an_error_that_says_so(service, reader):
    reader.context.set_offline(True)
    reader.asks()
    reader.waits("error")
    assert "cannot be reached" in reader.page.get_by_role("alert").inner_text()


HOSTILE = '<img src=x onerror="document.title=`owned`"><script>document.title="owned"</script>'


def test_nothing_that_comes_from_a_source_is_ever_markup(service, reader):
    service.answers(
        an_answer(f"{HOSTILE} [1]\n\n```\n{HOSTILE}\n```", a_citation(title=HOSTILE, quote=HOSTILE), model=HOSTILE)
    )
    passage = a_passage(before=HOSTILE, quote=HOSTILE, after=HOSTILE, heading_path=[HOSTILE])
    service.passages["document-1"] = Answer(json.dumps(passage), content_type="application/json")
    page = reader.answered(HOSTILE)
    assert page.locator("#source-1 h3").inner_text() == HOSTILE
    assert page.locator("blockquote").inner_text() == HOSTILE * 3
    assert page.locator("main img, main script").count() == 0
    assert page.title() == "LLM Twin"
    assert reader.complaints == []


def test_a_problem_of_the_service_is_never_markup_either(service, reader):
    service.routes["/rag"] = problem(422, title=HOSTILE, detail=HOSTILE, errors=[{"at": HOSTILE, "problem": HOSTILE}])
    reader.asks()
    reader.waits("error")
    assert reader.page.locator("main img, main script").count() == 0


def test_no_request_leaves_the_origin_and_the_policy_is_never_violated(service, reader):
    page = reader.answered()
    page.locator("#down").click()
    page.get_by_text("Kept. Thank you.").wait_for()
    assert {re.match(r"\w+://[^/]+", url).group() for url in reader.visited} == {service.url}
    assert reader.complaints == []


@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_needs_no_sideways_scrolling(service, open_page, width):
    long = "https://ada.example/" + "very-long-address" * 12
    service.answers(
        an_answer(
            f"See {long} [1].\n\n```\n{'x' * 200}\n```", a_citation(title=long, url=f"file:///{long}", quote=long)
        )
    )
    reader = open_page(viewport={"width": width, "height": 740}, is_mobile=True, has_touch=True)
    page = reader.answered()
    page.locator("#down").click()
    page.get_by_text("Options").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        "[...document.querySelectorAll('#ask button, .vote')].filter(b => b.offsetHeight).map(b => b.offsetHeight)"
    )
    assert min(sizes) >= 44


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_by_day_and_by_night(open_page, scheme):
    """WCAG 2.2 AA: 4.5 to 1 for text, computed by the formula of WCAG's relative luminance."""
    page = open_page(color_scheme=scheme).answered()
    assert page.evaluate(CONTRAST) == []


class Address:
    """A service that runs already."""

    def __init__(self, url):
        self.url = url


def test_the_service_itself_serves_the_page_and_answers_it(chromium):
    twin = FakeTwin()
    config = ServiceConfig()
    with served(create_app(twin.service(), config=config)) as (url, _):
        reader = Reader(chromium, Address(url))
        page = reader.answered("What is a log?")
        assert reader.reads() == "A log is a promise 1."
        assert page.locator("#source-1 blockquote").inner_text() == "bqa"
        page.locator("#down").click()
        page.get_by_label("A better answer").fill("A log is a diary.")
        page.get_by_role("button", name="Send it").click()
        page.get_by_text("Kept, with your better answer.").wait_for()
        twin.error = UnknownAuthor("No author named 'Zoe'", hint="Known authors: Ann Lee.")
        reader.asks("Who?")
        reader.waits("error")
        assert "Known authors: Ann Lee." in page.get_by_role("alert").inner_text()
        assert [said for said in reader.complaints if "422" not in said] == []
        reader.context.close()
    assert (twin.feedback[-1].vote, twin.feedback[-1].better_answer) == ("down", "A log is a diary.")


def test_the_page_asks_for_the_key_of_the_service_itself(chromium):
    hashes = [hashlib.sha256(b"k3y").hexdigest()]
    with served(create_app(FakeTwin().service(), config=ServiceConfig(), key_hashes=hashes)) as (url, _):
        reader = Reader(chromium, Address(url))
        reader.asks("What is a log?")
        reader.page.get_by_label("API key").fill("k3y")
        reader.page.keyboard.press("Enter")
        reader.waits("done")
        reader.page.locator("#source-1 blockquote", has_text="bqa").wait_for()
        reader.context.close()


CONTRAST = """() => {
  const rgba = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const says = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!says || !element.offsetHeight) continue;
    const [one, other] = [light(rgba(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) poor.push(element.textContent.trim().slice(0, 40));
  }
  return poor;
}"""
