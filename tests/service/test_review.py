"""Review of training data over HTTP: what is shown, what is kept, and what the next build makes of it."""

import dataclasses
import hashlib
import shutil
from contextlib import closing

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from llm_engineering.adapters.dataset_folder import DatasetFolder
from llm_engineering.dataset import store
from llm_engineering.domain.config import AnswerConfig, ServiceConfig
from llm_engineering.domain.dataset_config import DatasetConfig, SplitConfig
from llm_engineering.domain.entities import TombstoneReason
from llm_engineering.hosting import open_service
from llm_engineering.serving.app import create_app
from llm_engineering.serving.service import Review
from llm_engineering.settings import Settings
from tests.doubles.twin_service import Clients, FakeTwin
from tests.doubles.writing import SMALL, article, built, draft, record, warehouse_at

pytestmark = pytest.mark.anyio
KEY = "key-of-ann"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
SHARED = DatasetConfig(passages=SMALL, split=SplitConfig(validation=0.2, test=0.3))
DRAFTS = [draft(f"d{n}", article(f"alpha{n}", f"beta{n}")) for n in range(8)]


def build_into(home, **changes):
    """Build the dataset of the folder's warehouse, and make it the current one."""
    made = built(home, SHARED.model_copy(update=changes))
    store.write(made.dataset, home / "datasets")
    return [sample for side in made.dataset.samples.values() for sample in side]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    record(home, *DRAFTS)
    build_into(home)
    return home


@pytest.fixture
def home(written, tmp_path):
    shutil.copytree(written, tmp_path / "twin")
    return tmp_path / "twin"


@pytest.fixture
def warehouse(home):
    with closing(warehouse_at(home)) as warehouse:
        yield warehouse


def app_of(home, warehouse, *, hashes=(), **limits):
    review = Review(DatasetFolder(home / "datasets"), warehouse)
    service = dataclasses.replace(FakeTwin().service(), review=review)
    return create_app(service, config=ServiceConfig(**limits), key_hashes=hashes)


@pytest.fixture
def client(home, warehouse):
    return Clients(app_of(home, warehouse)).client()


async def shown(client, **search):
    answer = await client.get("/review/samples", params={"limit": 100, **search})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def decide(client, sample, verdict, **more):
    body = {"dataset": "twin", "sample_id": sample["id"], "verdict": verdict, **more}
    return await client.post("/review/decisions", json=body)


async def test_every_sample_of_the_current_version_is_shown_as_it_is(client, home):
    page = await shown(client)
    samples = {sample.id: sample for sample in build_into(home)}
    assert set(samples) == {each["id"] for each in page["samples"]} and page["next"] is None
    for each in page["samples"]:
        sample = samples[each["id"]]
        assert (each["instruction"], each["answer"]) == (sample.instruction, sample.answer)
        assert (each["url"], each["heading_path"]) == (sample.provenance.url, list(sample.provenance.heading_path))
        assert (each["style"], each["written_by"], each["verdict"]) == (sample.style.value, "rules", None)


async def test_pages_one_after_the_other_are_all_samples_once(client):
    whole = [each["id"] for each in (await shown(client))["samples"]]
    paged, after = [], 0
    while after is not None:
        page = await shown(client, limit=3, after=after)
        assert len(page["samples"]) <= 3
        paged += [each["id"] for each in page["samples"]]
        after = page["next"]
    assert paged == whole


async def test_a_decision_in_between_moves_no_sample_from_one_page_to_another(client):
    whole = [each["id"] for each in (await shown(client))["samples"]]
    first = await shown(client, limit=3, verdict="undecided")
    for each in first["samples"]:
        await decide(client, each, "keep")
    second = await shown(client, limit=3, verdict="undecided", after=first["next"])
    assert [each["id"] for each in (*first["samples"], *second["samples"])] == whole[:6]


async def test_filters_leave_what_they_say(client):
    every = (await shown(client))["samples"]
    for name in ("split", "style"):
        for value in {each[name] for each in every}:
            expected = [each["id"] for each in every if each[name] == value]
            assert [each["id"] for each in (await shown(client, **{name: value}))["samples"]] == expected
    found = (await shown(client, text="ALPHA3"))["samples"]
    assert found and all("alpha3" in f"{each['instruction']} {each['answer']} {each['title']}" for each in found)
    assert (await shown(client, text="(no.such*"))["samples"] == []


async def test_what_was_decided_is_kept_counted_and_found(client, warehouse):
    keep, refuse, edit, *rest = (await shown(client))["samples"]
    await decide(client, keep, "keep")
    await decide(client, refuse, "refuse")
    told = (await decide(client, edit, "edit", instruction="  Tell me about watermarks.\n")).json()
    assert (told["sample"]["instruction"], told["sample"]["original"]) == (
        "Tell me about watermarks.",
        edit["instruction"],
    )
    assert told["progress"] == {"total": len(rest) + 3, "decided": {"keep": 1, "refuse": 1, "edit": 1}}
    for verdict, expected in {
        "keep": [keep],
        "refuse": [refuse],
        "edit": [edit],
        "decided": [keep, refuse, edit],
    }.items():
        assert [each["id"] for each in (await shown(client, verdict=verdict))["samples"]] == [e["id"] for e in expected]
    assert [each["id"] for each in (await shown(client, verdict="undecided"))["samples"]] == [e["id"] for e in rest]
    assert [each["id"] for each in (await shown(client, text="about WATERMARKS"))["samples"]] == [edit["id"]]
    assert {each.document_ids for each in warehouse.decisions()} <= {(each.document_id,) for each in DRAFTS}


async def test_the_next_build_follows_the_decisions(client, home):
    refuse, edit, *rest = (await shown(client))["samples"]
    await decide(client, refuse, "refuse")
    await decide(client, edit, "edit", instruction="Tell me.")
    build_into(home)
    after = await shown(client)
    again = {each["id"]: each for each in after["samples"]}
    assert set(again) == {edit["id"], *(each["id"] for each in rest)}
    assert (again[edit["id"]]["instruction"], again[edit["id"]]["written_by"]) == ("Tell me.", "person")
    assert (again[edit["id"]]["answer"], again[edit["id"]]["original"]) == (edit["answer"], None)
    assert after["progress"]["decided"] == {"edit": 1}


async def test_keeping_an_edited_sample_keeps_the_edited_instruction_through_every_build(client, home):
    edit = (await shown(client))["samples"][0]
    await decide(client, edit, "edit", instruction="Tell me.")
    for verdicts in (["keep"], ["refuse", "keep"]):
        for verdict in verdicts:
            assert (await decide(client, edit, verdict)).status_code == 200
        build_into(home)
        kept = {each["id"]: each["instruction"] for each in (await shown(client))["samples"]}
        assert kept[edit["id"]] == "Tell me."


async def test_a_sample_that_is_not_there_is_a_problem(client, home):
    answer = await decide(client, {"id": "unknown"}, "keep")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-sample")
    assert answer.headers["Content-Type"] == "application/problem+json"
    refused = (await shown(client))["samples"][0]
    await decide(client, refused, "refuse")
    build_into(home)
    assert (await decide(client, refused, "keep")).status_code == 404


async def test_withdrawn_text_is_shown_no_more_and_a_decision_about_it_says_why(client, warehouse):
    sample, *_ = (before := await shown(client))["samples"]
    document = next(each.document_id for each in DRAFTS if each.url == sample["url"])
    warehouse.bury([document], reason=TombstoneReason.WITHDRAWN)
    answer = await decide(client, sample, "keep")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/withdrawn")
    assert "poe run-dataset-pipeline" in answer.json()["detail"] and list(warehouse.decisions()) == []
    after = await shown(client)
    assert sample["url"] not in {each["url"] for each in after["samples"]}
    assert after["withheld"] == len(before["samples"]) - len(after["samples"]) > 0


async def test_without_a_dataset_there_is_a_page_and_nothing_on_it(tmp_path):
    with closing(warehouse_at(tmp_path)) as warehouse:
        client = Clients(app_of(tmp_path, warehouse)).client()
        assert "poe run-dataset-pipeline" in (await client.get("/review/")).text
        page = await shown(client)
        assert (page["dataset"], page["samples"], page["next"]) == (None, [], None)
        assert (await client.get("/review/samples", params={"dataset": "other"})).status_code == 404


async def test_of_several_datasets_the_newest_is_shown_unless_one_is_named(client, home):
    build_into(home, name="second")
    assert (page := await shown(client))["dataset"] == "second" and page["datasets"] == ["second", "twin"]
    assert (await shown(client, dataset="twin"))["dataset"] == "twin"


async def test_a_dataset_with_a_broken_file_is_unavailable_not_empty(client, home):
    (file,) = (home / "datasets" / "twin").glob("*/instruct/train.parquet")
    file.write_bytes(b"PAR1 broken PAR1")
    answer = await client.get("/review/samples")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
    assert str(home) not in answer.text


async def test_no_text_leaves_without_a_key(home, warehouse):
    async with Clients(app_of(home, warehouse, hashes=[HASH])).client(host="203.0.113.9") as client:
        page = await client.get("/review", follow_redirects=True)
        assert page.status_code == 200 and "Training data" in page.text and "alpha" not in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert (await client.get("/review/samples")).status_code == 401
        assert (await decide(client, {"id": "x"}, "keep")).status_code == 401
        client.headers["X-API-Key"] = KEY
        assert len((await shown(client))["samples"]) > 0


async def test_without_keys_only_this_machine_reviews(home, warehouse):
    async with Clients(app_of(home, warehouse)).client(host="192.168.1.5") as client:
        assert (await client.get("/review/samples")).status_code == 403


@pytest.mark.parametrize(
    "more",
    [
        {"verdict": "edit"},
        {"verdict": "edit", "instruction": " ?! "},
        {"verdict": "edit", "instruction": "x" * 4001},
        {"verdict": "edit", "instruction": "Why?", "answer": "Other words."},
        {"verdict": "keep", "instruction": "Why?"},
        {"verdict": "drop"},
        {"verdict": "keep", "dataset": "../twin"},
    ],
)
async def test_what_cannot_be_kept_is_a_problem(client, warehouse, more):
    sample = (await shown(client))["samples"][0]
    answer = await client.post("/review/decisions", json={"dataset": "twin", "sample_id": sample["id"], **more})
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
    assert list(warehouse.decisions()) == []


async def test_without_datasets_to_read_there_is_no_such_page():
    app = create_app(FakeTwin().service(), config=ServiceConfig())
    async with Clients(app).client() as client:
        assert (await client.get("/review/")).status_code == 404


async def test_the_service_of_a_home_reviews_the_datasets_of_that_home(home):
    configured = Settings(_env_file=None, twin_home=home)
    async with open_service(configured, AnswerConfig(), ServiceConfig()) as service:
        client = Clients(create_app(service, config=ServiceConfig())).client()
        assert (await decide(client, (await shown(client))["samples"][0], "keep")).status_code == 200
        assert len((await shown(client, verdict="keep"))["samples"]) == 1


async def test_main_page_names_it(client):
    assert 'href="review/"' in (await client.get("/")).text


def test_what_the_description_says_holds(home, warehouse):
    app = app_of(home, warehouse, burst=1_000_000, per_minute=1e9, max_body_bytes=50_000_000)

    async def from_this_machine(scope, receive, send):
        if scope["type"] == "http":
            headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = scope | {"client": ("127.0.0.1", 1), "headers": [*headers, (b"host", b"localhost")]}
        await app(scope, receive, send)

    schema = schemathesis.openapi.from_asgi("/openapi.json", from_this_machine).include(path_regex="^/review/")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} == {"/review/samples", "/review/decisions"}
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
            def holds(case):
                case.call_and_validate()

            holds()
