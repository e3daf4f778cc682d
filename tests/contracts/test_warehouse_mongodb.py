"""What the MongoDB warehouse promises beyond the port: conflicts are run again, lost answers double nothing, clear refusals."""

import logging
import socket
import traceback
from collections.abc import Iterator
from contextlib import closing

import pymongo
import pytest
from pymongo.errors import PyMongoError

from llm_engineering.adapters.mongodb import MongoWarehouse
from llm_engineering.adapters.mongodb_server import MongoServer
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.domain.errors import StoreError, StoreLocked, StoreUnavailable, TwinError, UsageError
from tests.doubles.mongo_wire import MongoWireServer

ANN = Author.named("Ann Lee")
TRANSIENT, UNKNOWN = "TransientTransactionError", "UnknownTransactionCommitResult"
WRITE_CONFLICT, LOST = 112, 91


@pytest.fixture
def server() -> Iterator[MongoWireServer]:
    with MongoWireServer() as running:
        yield running


@pytest.fixture
def warehouse(server: MongoWireServer) -> Iterator[MongoWarehouse]:
    with closing(MongoWarehouse(server.url, "twin")) as opened:
        opened.save_author(ANN)
        yield opened


def draft(name: str, text: str = "Hello.") -> Draft:
    return Draft(author_id=ANN.id, url=f"https://x.org/{name}", kind=Kind.NOTE, platform="x", title="t", text=text)


@pytest.mark.parametrize("command", ["find", "findAndModify", "update", "insert", "commitTransaction"])
def test_a_write_conflict_runs_the_transaction_again(server, warehouse, command):
    server.fail_next(command, WRITE_CONFLICT, TRANSIENT)
    assert [kept.revision for kept in warehouse.record([draft("a"), draft("b")])] == [1, 1]
    assert [change.sequence for change in warehouse.changes(after=0, limit=9)] == [1, 2]


def test_a_commit_whose_answer_is_lost_is_not_written_twice(server, warehouse):
    server.fail_next("commitTransaction", LOST, UNKNOWN, after=True)
    assert warehouse.record([draft("a")])[0].revision == 1
    assert warehouse.head() == 1


def test_an_error_in_the_middle_leaves_nothing_behind(server, warehouse):
    server.fail_next("insert", 50)
    with pytest.raises(StoreError, match="failed"):
        warehouse.record([draft("a")])
    assert (list(warehouse.states()), warehouse.head()) == ([], 0)


def test_a_conflict_that_does_not_end_is_reported_as_one(server, warehouse):
    server.fail_next("findAndModify", WRITE_CONFLICT)  # without the label that asks for another try
    with pytest.raises(StoreLocked, match="Run the same again"):
        warehouse.record([draft("a")])


def test_a_text_too_large_for_mongodb_is_refused_with_its_limit(warehouse):
    with pytest.raises(StoreError, match="16 MB"):
        warehouse.record([draft("a", "x" * 17_000_000)])
    assert warehouse.head() == 0


def test_a_client_that_dies_in_a_transaction_leaves_nothing_behind(server, warehouse):
    client = pymongo.MongoClient(server.url)
    session = client.start_session()
    session.start_transaction()
    client["twin"]["authors"].delete_many({}, session=session)
    client.close()
    assert warehouse.authors() == [ANN]


def test_opening_again_makes_no_second_index(server, warehouse):
    with closing(MongoWarehouse(server.url, "twin")) as again:
        assert again.authors() == [ANN]


def test_a_newer_warehouse_asks_for_an_upgrade(server, warehouse):
    with pymongo.MongoClient(server.url) as client:
        client["twin"]["meta"].update_one({"_id": "schema"}, {"$set": {"version": 99}})
    with pytest.raises(StoreUnavailable, match=r"version 99, this program reads up to 3\. Upgrade"):
        MongoWarehouse(server.url, "twin")


@pytest.mark.parametrize("version", [1, 2])
def test_a_warehouse_of_an_earlier_version_is_brought_up(server, warehouse, version):
    with pymongo.MongoClient(server.url) as client:
        client["twin"]["meta"].update_one({"_id": "schema"}, {"$set": {"version": version}})
        MongoWarehouse(server.url, "twin").close()
        assert client["twin"]["meta"].find_one({"_id": "schema"})["version"] == 3


def test_the_address_may_name_the_database(server):
    with closing(MongoWarehouse(f"{server.url}named", "twin")) as warehouse:
        assert warehouse.status().address == f"mongodb://{server.address}/named"


def test_a_server_that_stands_alone_is_refused_with_what_to_do():
    with (
        MongoWireServer(replica_set=None) as server,
        pytest.raises(StoreUnavailable, match=r"only a replica set.*poe up"),
    ):
        MongoWarehouse(server.url, "twin")


@pytest.fixture
def nobody() -> str:
    """An address at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_server_that_is_down_is_said_to_be(nobody):
    with pytest.raises(StoreUnavailable, match=rf"{nobody}/twin does not answer\. Start it with `poe up`") as caught:
        MongoServer(f"mongodb://{nobody}", "twin", patience=0.2)
    assert isinstance(caught.value.__cause__, PyMongoError)


def test_a_server_that_goes_down_is_said_to_be():
    with MongoWireServer() as server:
        going = MongoServer(server.url, "twin", patience=0.2)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        going.transaction(lambda session: going["meta"].find_one({}, session=session))
    going.close()


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://ann:pa55@word@{0}/",
        "mongodb://ann:pa55/word@{0}/",
        "mongodb://ann:pa55?word@{0}/",
        "mongodb://ann:pa55word@{0}/?authSource=admin&unknownOption=pa55",
        "mongodb://ann:pa55word@{0}/?authMechanismProperties=pa55",
        "mongodb://ann:pa55word@{0}/bad name",
        "mongodb://ann:pa55word@{0}:notaport",
        "mongodb://ann:pa55%40word@{0}/?appname=pa55",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of a misspelt option pymongo only warns
def test_no_message_shows_the_password(nobody, url, caplog, capsys):
    caplog.set_level(logging.DEBUG, logger="llm_engineering")
    with pytest.raises(TwinError) as caught:
        MongoServer(url.format(nobody), "twin", patience=0.1)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text + "".join(capsys.readouterr())
    assert "pa55" not in told.replace(url, "")


@pytest.mark.parametrize(
    ("url", "database"), [("mongodb://", "twin"), ("mongodb://h:1:2", "twin"), ("mongodb://h", "a b")]
)
def test_an_address_that_is_none_is_refused_as_bad_usage(url, database):
    with pytest.raises(UsageError, match="WAREHOUSE_URL or WAREHOUSE_DATABASE"):
        MongoWarehouse(url, database)
