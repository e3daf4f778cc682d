"""The page for reviewing training data in a real Chromium: by keyboard, after loading it again, on a phone."""

import hashlib

import pytest

from tests.doubles.twin_service import served
from tests.service.test_page import chromium  # noqa: F401  # a fixture
from tests.service.test_review import app_of, build_into, home, warehouse, written  # noqa: F401  # fixtures

KEY = "key-of-ann"


class Reviewer:
    """A person in front of the page."""

    def __init__(self, browser, url, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.goto(f"{url}/review/")

    def waits(self, state="ready"):
        self.page.locator(f"body[data-state={state}]").wait_for()
        return self.page

    def counts(self, words):
        self.page.locator("#count", has_text=words).wait_for()

    def instruction(self):
        return self.page.locator("[aria-current=true] .instruction").inner_text()


@pytest.fixture
def reviewer(chromium, home, warehouse):  # noqa: F811
    with served(app_of(home, warehouse)) as (url, _):
        reviewer = Reviewer(chromium, url, viewport={"width": 360, "height": 640})
        reviewer.waits()
        yield reviewer
        reviewer.context.close()


def test_a_key_is_asked_for_and_then_samples_are_there(chromium, home, warehouse):  # noqa: F811
    with served(app_of(home, warehouse, hashes=[hashlib.sha256(KEY.encode()).hexdigest()])) as (url, _):
        reviewer = Reviewer(chromium, url)
        reviewer.page.locator("#key:focus").wait_for()
        assert reviewer.page.locator(".sample").count() == 0
        reviewer.page.keyboard.type(KEY)
        reviewer.page.keyboard.press("Enter")
        assert reviewer.waits().locator(".sample").count() > 0
        reviewer.page.keyboard.press("k")
        reviewer.counts("1 kept")
        reviewer.context.close()


def test_what_is_decided_by_keyboard_is_there_after_loading_again_and_in_the_next_build(reviewer, home, warehouse):  # noqa: F811
    page, keys = reviewer.page, reviewer.page.keyboard
    kept = reviewer.instruction()
    keys.press("k")
    reviewer.counts("1 kept")
    refused = reviewer.instruction()
    keys.press("r")
    reviewer.counts("1 refused")
    keys.press("j")
    keys.press("ArrowLeft")
    keys.press("e")
    page.locator("#instruction:focus").wait_for()
    keys.press("Control+a")
    keys.type("Tell me what you refuse to keep.")
    keys.press("Control+Enter")
    reviewer.counts("1 edited")
    page.reload()
    reviewer.waits()
    reviewer.counts("3 of")
    assert page.get_by_text(kept, exact=True).count() == 0
    page.get_by_label("Show").select_option("decided")
    page.locator(".verdict").nth(2).wait_for()
    assert page.locator(".verdict").all_inner_texts() == ["kept", "refused", "edited"]
    samples = {sample.instruction: sample for sample in build_into(home)}
    assert kept in samples and refused not in samples
    assert samples["Tell me what you refuse to keep."].written_by == "person"
    assert reviewer.complaints == []


def test_what_is_typed_into_a_field_decides_nothing(reviewer, warehouse):  # noqa: F811
    page, keys = reviewer.page, reviewer.page.keyboard
    keys.press("e")
    page.locator("#instruction:focus").wait_for()
    keys.type("kerj")
    keys.press("Escape")
    page.get_by_label("Containing").fill("alpha3")
    page.get_by_label("Containing").press("Enter")
    page.wait_for_function("() => document.activeElement.classList.contains('sample')")
    assert all("alpha3" in text for text in page.locator(".sample").all_inner_texts())
    assert "text=alpha3" in page.url and list(warehouse.decisions()) == []


def test_the_last_sample_leads_to_the_next_page_and_the_first_back(reviewer):
    page, keys = reviewer.page, reviewer.page.keyboard
    first = reviewer.instruction()
    count = page.locator(".sample").count()
    for _ in range(count):
        keys.press("j")
    page.wait_for_function("() => !document.getElementById('back').disabled")
    assert reviewer.waits().locator(".sample").first.inner_text() != first
    keys.press("ArrowLeft")
    page.wait_for_function("() => document.getElementById('back').disabled")
    assert page.locator(".sample").last.get_attribute("aria-current") == "true"


def test_a_sample_that_left_meanwhile_is_told_and_the_page_goes_on(reviewer, home):  # noqa: F811
    page = reviewer.page
    for file in (home / "datasets" / "twin").glob("current"):
        file.unlink()
    page.keyboard.press("k")
    page.get_by_text("no such sample").wait_for()
    page.get_by_role("button", name="Load anew").click()
    page.get_by_text("There is no dataset yet").wait_for()
    assert page.get_by_text("poe run-dataset-pipeline").is_visible()


def test_the_page_fits_a_phone_and_names_its_buttons(reviewer):
    page = reviewer.page
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    for name in ("Keep", "Edit", "Refuse", "Next", "Previous sample"):
        button = page.get_by_role("button", name=name, exact=False).first
        box = button.bounding_box()
        assert button.is_visible() and box["height"] >= 40 and box["x"] >= 0 and box["x"] + box["width"] <= 360
