"""The page for blind comparison in a real Chromium, by keyboard alone."""

import dataclasses
import hashlib

import pytest

from llm_engineering.adapters.blind_folder import BlindFolder
from llm_engineering.domain.config import ServiceConfig
from llm_engineering.serving.app import create_app
from tests.doubles.twin_service import FakeTwin, served
from tests.service.test_blind import pairs
from tests.service.test_page import chromium  # noqa: F401  # a fixture

KEY = "key-of-ann"


@pytest.fixture
def store(tmp_path) -> BlindFolder:
    found = BlindFolder(tmp_path / "blind")
    found.replace("m", pairs())
    return found


@pytest.fixture(params=[(), (hashlib.sha256(KEY.encode()).hexdigest(),)], ids=["without keys", "with a key"])
def page(request, chromium, store):  # noqa: F811
    service = dataclasses.replace(FakeTwin().service(), blind=store)
    with served(create_app(service, config=ServiceConfig(), key_hashes=request.param)) as (url, _):
        page = chromium.new_page(viewport={"width": 360, "height": 640})
        page.set_default_timeout(60_000)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(f"{url}/review/ab")
        if request.param:
            page.locator("#key:focus").wait_for()
            page.keyboard.type(KEY)
            page.keyboard.press("Enter")
        page.locator("body[data-state=asking]").wait_for()
        yield page
        page.close()


def test_every_pair_is_judged_with_three_keys(page, store):
    shown = {}
    for number, key in enumerate("120", start=1):
        page.get_by_text(f"{number} of 3").wait_for()
        page.locator("#question:focus").wait_for()
        shown[page.locator("#first").inner_text()] = {"1": "first", "2": "second", "0": "neither"}[key]
        page.keyboard.press(key)
    page.get_by_text("All 3 done").wait_for()
    of = {pair.texts[0]: pair for pair in pairs()}
    assert [choice.taken for choice in store.choices()] == [of[text].meant(place) for text, place in shown.items()]
    assert page.complaints == []


def test_the_end_says_that_other_pairs_are_for_others(page, store):
    store.replace("n", pairs(model="n"))
    for number in range(1, 4):
        page.get_by_text(f"{number} of 3").wait_for()
        page.locator("#question:focus").wait_for()
        page.keyboard.press("0")
    page.get_by_text("All 3 done").wait_for()
    assert "3 more are about writings of which you have seen the author's text" in page.locator("#status").inner_text()
    assert page.complaints == []


def test_the_page_fits_a_phone_and_names_its_buttons(page):
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    for name in ("First 1", "Second 2", "Cannot tell 0"):
        assert page.get_by_role("button", name=name).is_visible()
