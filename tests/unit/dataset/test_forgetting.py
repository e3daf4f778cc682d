"""What is forgotten leaves the disk with every version that holds it; what is left keeps its side."""

from contextlib import closing

import pytest

from llm_engineering.dataset import store
from llm_engineering.domain.dataset_config import SplitConfig
from llm_engineering.domain.entities import TombstoneReason
from llm_engineering.domain.errors import DatasetError
from llm_engineering.domain.samples import Split
from tests.doubles.writing import HALVES, built, draft, record, warehouse_at


def test_a_withdrawn_document_is_in_no_later_build_and_its_old_versions_go(folder, tmp_path):
    root = tmp_path / "datasets"
    one = built(folder)
    store.write(one.dataset, root)
    gone = next(line.id for line in one.dataset.card.documents if line.spans)
    assert [card.version for _, card in store.holding(root, [gone])] == [one.dataset.card.version]
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.bury([gone], reason=TombstoneReason.WITHDRAWN)
    assert store.drop(root, [gone]) == [f"twin {one.dataset.card.version}"]
    assert store.current(root, "twin") is None
    two = built(folder, previous=one.dataset.card.sides)
    store.write(two.dataset, root)
    assert gone not in two.dataset.card.model_dump_json()
    assert store.holding(root, [gone]) == []
    assert not any(gone.encode() in path.read_bytes() for path in root.rglob("*.json*"))


def test_a_withdrawn_document_that_gave_no_sample_leaves_the_cards_that_name_it(folder, tmp_path):
    root = tmp_path / "datasets"
    record(folder, draft("note", "# A private title\n\nToo short to learn from.\n"))
    one = built(folder)
    store.write(one.dataset, root)
    (gone,) = (line.id for line in one.dataset.card.documents if line.url.endswith("/note"))
    assert not next(line for line in one.dataset.card.documents if line.id == gone).spans
    assert store.drop(root, [gone]) == [f"twin {one.dataset.card.version}"]
    assert not any(gone.encode() in path.read_bytes() for path in root.rglob("*.json*"))


def test_datasets_of_every_name_lose_the_versions_that_hold_a_withdrawn_document(folder, tmp_path):
    root = tmp_path / "datasets"
    made = {name: built(folder, HALVES.model_copy(update={"name": name})) for name in ("twin", "twin-pairs")}
    for each in made.values():
        store.write(each.dataset, root)
    gone = next(line.id for line in made["twin"].dataset.card.documents if line.spans)
    assert store.drop(root, [gone]) == [f"{name} {each.dataset.card.version}" for name, each in made.items()]
    assert list(store.versions(root)) == []


def test_a_kill_while_a_version_is_removed_leaves_the_rest_to_the_next_build(folder, tmp_path, monkeypatch):
    root = tmp_path / "datasets"
    card = built(folder).dataset.card
    store.write(built(folder).dataset, root)
    gone = next(line.id for line in card.documents if line.spans)

    def killed(path):
        (path / "card.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("shutil.rmtree", killed)
        store.drop(root, [gone])
    assert not (root / "twin" / card.version).exists() and list(root.rglob("*.jsonl"))
    assert store.drop(root, [gone]) == [f"twin {card.version}"]
    assert not list(root.rglob("*.jsonl")) and store.drop(root, [gone]) == []


@pytest.mark.parametrize("left", ["0123456789ab", ".0123456789ab.part"])
def test_a_version_that_no_card_speaks_for_goes_once_a_document_is_withdrawn(tmp_path, left):
    folder, foreign = tmp_path / "twin" / left, tmp_path / "twin" / "my notes"
    for each in (folder, foreign):
        each.mkdir(parents=True)
        (each / "train.jsonl").write_text("somebody's text")
    (tmp_path / "twin" / "current").write_text(left)
    assert store.drop(tmp_path, []) == []
    assert store.drop(tmp_path, ["d1"]) == ["twin 0123456789ab"]
    assert not folder.exists() and foreign.exists() and store.current(tmp_path, "twin") is None


def test_sides_outlive_a_dropped_version_until_the_next_build_succeeds(folder, tmp_path):
    root = tmp_path / "datasets"
    card = built(folder, HALVES).dataset.card
    moved = {identity: Split.TEST if side is Split.TRAIN else Split.TRAIN for identity, side in card.sides.items()}
    store.write(built(folder, HALVES, previous=moved).dataset, root)  # no hash says so: the record alone can
    (root / "twin" / "sides.json").unlink()  # as a version of before this file was kept
    gone = next(line.id for line in card.documents if line.spans)
    store.drop(root, [gone])
    kept = store.sides(root, "twin", HALVES.split)
    assert store.current(root, "twin") is None
    assert kept == {identity: side for identity, side in moved.items() if identity != gone}
    assert store.sides(root, "twin", SplitConfig(salt="2")) == {}
    assert store.sides(root, "twin", HALVES.split.model_copy(update={"fewest_test": 9})) == kept


def test_sides_that_cannot_be_read_stop_a_build(tmp_path):
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin" / "sides.json").write_text("[")
    with pytest.raises(DatasetError, match=r"sides\.json"):
        store.sides(tmp_path, "twin", HALVES.split)
