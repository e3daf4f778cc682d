"""Random stories of one warehouse, told beside a model that fits on a page."""

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llm_engineering.adapters.mongodb import MongoWarehouse
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.crawl.transfer import export_lines, import_lines
from llm_engineering.domain.entities import Author, Draft, Kind, TombstoneReason
from llm_engineering.domain.ports import Warehouse
from tests.doubles.mongo_wire import MongoWireServer

ANN = Author.named("Ann Lee")
NAMES = st.sampled_from("abc")
TEXTS = st.sampled_from(["one", "two", "three"])


def draft(name: str, text: str) -> Draft:
    return Draft(author_id=ANN.id, url=f"https://x.org/{name}", kind=Kind.NOTE, platform="x", title="t", text=text)


class Story(RuleBasedStateMachine):
    """The model: by name every text so far (none once withdrawn) and the tombstone's reason; and the log."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.gone: dict[str, TombstoneReason] = {}
        self.log: list[tuple[str, int | None]] = []
        self.warehouse = self.open()
        self.warehouse.save_author(ANN)

    def open(self) -> Warehouse:
        raise RuntimeError("told by the engines below")

    @rule(states=st.lists(st.tuples(NAMES, TEXTS), min_size=1, max_size=4))
    def record(self, states):
        recorded = self.warehouse.record([draft(name, text) for name, text in states])
        assert [kept.outcome.value for kept in recorded] == [self._record(*state) for state in states]

    def _record(self, name: str, text: str) -> str:
        texts = self.texts.setdefault(name, [])
        reason = self.gone.get(name)
        if reason is TombstoneReason.WITHDRAWN:
            return "withdrawn"
        known = bool(texts)
        if not known or texts[-1] != text:
            texts.append(text)
        elif reason is None:
            return "unchanged"
        self.gone.pop(name, None)
        self.log.append((name, len(texts)))
        return "restored" if reason else "revised" if known else "stored"

    @rule(names=st.lists(NAMES, min_size=1, max_size=3), reason=st.sampled_from(TombstoneReason))
    def bury(self, names, reason):
        buried = self.warehouse.bury([draft(name, "").document_id for name in names], reason=reason)
        expected = [name for name in dict.fromkeys(names) if self._bury(name, reason)]
        assert [tombstone.document_id for tombstone in buried] == [draft(name, "").document_id for name in expected]

    def _bury(self, name: str, reason: TombstoneReason) -> bool:
        before, withdrawn = self.gone.get(name), TombstoneReason.WITHDRAWN
        if name not in self.texts or before is withdrawn or (before and reason is not withdrawn):
            return False
        self.gone[name] = reason
        if reason is withdrawn:
            self.texts[name] = []
        self.log.append((name, None))
        return True

    @rule()
    def import_its_own_export(self):
        report = import_lines(self.warehouse, list(export_lines(self.warehouse)))
        assert (report.written, report.refused) == (0, ())

    @rule()
    def reopen(self):
        self.warehouse.close()
        self.warehouse = self.open()

    @invariant()
    def states_and_log_are_those_of_the_model(self):
        states = {state.document.url[-1]: state for state in self.warehouse.states(include_deleted=True)}
        told = {n: (s.revision and s.revision.text, s.tombstone and s.tombstone.reason) for n, s in states.items()}
        assert told == {n: (texts[-1] if texts else None, self.gone.get(n)) for n, texts in self.texts.items()}
        names = {draft(name, "").document_id: name for name in "abc"}
        changes = self.warehouse.changes(after=0, limit=1000)
        assert [(names[change.document_id], change.revision) for change in changes] == self.log
        assert self.warehouse.head() == len(self.log)

    @invariant()
    def every_kept_revision_can_be_read(self):
        for name, texts in self.texts.items():
            for number, text in enumerate(texts, start=1):
                assert self.warehouse.revision(draft(name, "").document_id, number).text == text

    def teardown(self):
        with tempfile.TemporaryDirectory() as folder, closing(SQLiteWarehouse(Path(folder) / "copy.sqlite")) as copy:
            lines = list(export_lines(self.warehouse))
            import_lines(copy, lines)
            assert list(export_lines(copy)) == lines
        self.warehouse.close()


class SQLiteStory(Story):
    def open(self) -> Warehouse:
        if not hasattr(self, "folder"):
            self.folder = Path(tempfile.mkdtemp())
        return SQLiteWarehouse(self.folder / "warehouse.sqlite")

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.folder)


class MongoStory(Story):
    def open(self) -> Warehouse:
        if not hasattr(self, "server"):
            self.server = MongoWireServer()
            self.server.__enter__()
        return MongoWarehouse(self.server.url, "twin")

    def teardown(self):
        super().teardown()
        self.server.__exit__()


BRIEF = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
TestSQLiteStory = SQLiteStory.TestCase
TestSQLiteStory.settings = BRIEF
TestMongoStory = MongoStory.TestCase
TestMongoStory.settings = settings(BRIEF, max_examples=8, stateful_step_count=12)
