"""Blind comparison over HTTP: nothing tells which text is whose, and whoever may not come in sees no text."""

import dataclasses
import hashlib

import pytest

from llm_engineering.adapters.blind_folder import BlindFolder
from llm_engineering.domain.blind import BlindPair
from llm_engineering.domain.config import ServiceConfig
from llm_engineering.serving.app import create_app
from tests.doubles.twin_service import Clients, FakeTwin

pytestmark = pytest.mark.anyio
KEYS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("key-of-ann", "key-of-bob")}


def pairs(count: int = 3, *, model: str = "m", documents: int = 3) -> list[BlindPair]:
    return [
        BlindPair.of(
            model=model, author="Ada Winter", task=f"Task {n}", twin=f"Made {n}", written=f"Hers {n}", seed=7,
            document_ids=(f"d{n % documents}",),
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path) -> BlindFolder:
    found = BlindFolder(tmp_path / "blind")
    found.replace("m", pairs())
    return found


def app(store: BlindFolder | None, *, hashes=()):
    service = dataclasses.replace(FakeTwin().service(), blind=store)
    return create_app(service, config=ServiceConfig(), key_hashes=hashes)


async def test_a_person_judges_pair_after_pair_until_all_are_done(store):
    async with Clients(app(store)).client() as client:
        shown = (await client.get("/review/ab/next")).json()
        for number in range(3):
            assert (shown["decided"], shown["total"]) == (number, 3)
            body = {"pair_id": shown["pair"]["id"], "chosen": "first"}
            shown = (await client.post("/review/ab/choices", json=body)).json()
    assert shown == {"pair": None, "decided": 3, "total": 3, "seen": 0}
    of = {pair.id: pair for pair in pairs()}
    assert all(choice.taken == of[choice.pair_id].order[0] for choice in store.choices())


async def test_what_is_sent_names_no_side(store):
    async with Clients(app(store)).client() as client:
        shown = (await client.get("/review/ab/next")).json()["pair"]
    assert set(shown) == {"id", "task", "author", "first", "second"}
    assert sorted((shown["first"][:4], shown["second"][:4])) == ["Hers", "Made"]


async def test_the_same_pair_is_shown_until_it_is_judged(store):
    async with Clients(app(store)).client() as client:
        assert (await client.get("/review/ab/next")).json() == (await client.get("/review/ab/next")).json()


async def test_two_people_judge_each_for_themselves_and_no_key_is_kept(store, tmp_path):
    async with Clients(app(store, hashes=KEYS.values())).client() as client:
        for key in KEYS:
            headers = {"X-API-Key": key}
            shown = (await client.get("/review/ab/next", headers=headers)).json()
            assert shown["decided"] == 0
            body = {"pair_id": shown["pair"]["id"], "chosen": "neither"}
            await client.post("/review/ab/choices", json=body, headers=headers)
    kept = (tmp_path / "blind" / "choices.jsonl").read_text(encoding="utf-8")
    assert len({choice.judge for choice in store.choices()}) == 2
    assert not any(key in kept or digest in kept for key, digest in KEYS.items())


async def test_without_a_key_there_is_the_page_and_no_text(store):
    async with Clients(app(store, hashes=KEYS.values())).client(host="203.0.113.9") as client:
        page = await client.get("/review/ab")
        assert page.status_code == 200 and "Who wrote it?" in page.text and "Hers" not in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert (await client.get("/review/ab/next")).status_code == 401
        body = {"pair_id": pairs()[0].id, "chosen": "first"}
        assert (await client.post("/review/ab/choices", json=body)).status_code == 401


async def test_without_keys_only_this_machine_judges(store):
    async with Clients(app(store)).client(host="192.168.1.5") as client:
        assert (await client.get("/review/ab/next")).status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"pair_id": "unknown", "chosen": "first"}, 404),
        ({"pair_id": "x", "chosen": "third"}, 422),
        ({"pair_id": "x", "chosen": "first", "judge": "me"}, 422),
        ({}, 422),
    ],
)
async def test_what_cannot_be_kept_is_a_problem(store, body, status):
    async with Clients(app(store)).client() as client:
        answer = await client.post("/review/ab/choices", json=body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert store.choices() == []


async def test_a_forgotten_document_is_shown_no_more(store):
    store.forget(["d0", "d1", "d2"])
    async with Clients(app(store)).client() as client:
        empty = {"pair": None, "decided": 0, "total": 0, "seen": 0}
        assert (await client.get("/review/ab/next")).json() == empty


async def judged_to_the_end(client, **headers: str) -> list[dict]:
    """Every pair that one person is shown, and what they are told at the end."""
    found = []
    shown = (await client.get("/review/ab/next", headers=headers)).json()
    while shown["pair"]:
        found.append(shown["pair"])
        body = {"pair_id": shown["pair"]["id"], "chosen": "first"}
        shown = (await client.post("/review/ab/choices", json=body, headers=headers)).json()
    return [*found, shown]


async def test_nobody_sees_one_text_of_the_author_beside_two_twins(store):
    store.replace("n", pairs(model="n"))
    async with Clients(app(store, hashes=KEYS.values())).client() as client:
        *shown, end = await judged_to_the_end(client, **{"X-API-Key": "key-of-ann"})
        assert sorted(pair["task"] for pair in shown) == ["Task 0", "Task 1", "Task 2"]
        assert end == {"pair": None, "decided": 3, "total": 3, "seen": 3}
        assert len(await judged_to_the_end(client, **{"X-API-Key": "key-of-bob"})) == 4


async def test_of_several_tasks_about_one_document_a_person_sees_one(store):
    """A task may quote what stands before its passage: what another pair shows."""
    store.replace("m", pairs(6, documents=2))
    async with Clients(app(store)).client() as client:
        assert (await client.get("/review/ab/next")).json()["total"] == 2
        *shown, end = await judged_to_the_end(client)
    assert (len(shown), end["decided"], end["total"], end["seen"]) == (2, 2, 2, 4)


async def test_who_has_judged_a_document_before_is_shown_no_pair_of_a_new_evaluation_about_it(store):
    async with Clients(app(store)).client() as client:
        await judged_to_the_end(client)
        store.replace("m", pairs(4, model="m again", documents=4))
        *shown, end = await judged_to_the_end(client)
    assert [pair["task"] for pair in shown] == ["Task 3"]
    assert (end["decided"], end["seen"]) == (1, 3)


async def test_without_pairs_to_keep_there_is_no_such_page():
    async with Clients(app(None)).client() as client:
        assert (await client.get("/review/ab")).status_code == 404
