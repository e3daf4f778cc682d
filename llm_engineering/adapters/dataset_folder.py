"""Samples of the datasets on disk, read for review: columns that decide first, texts only where they are shown."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.review import ReviewFilter, ReviewPage, Shown
from llm_engineering.domain.samples import Decision, Provenance, Sample, Split

_ROWS = 256
"""Rows whose texts are in memory at a time."""
_BUFFER = 1 << 20
_CURRENT = "current"
_WHERE = tuple(Provenance.model_fields)
_COLUMNS = [*(name for name in Sample.model_fields if name != "provenance"), *_WHERE]


@dataclass(frozen=True, slots=True)
class _Side:
    """One split's file, opened, and what decides which of its rows are wanted."""

    split: Split
    file: pq.ParquetFile
    first: int
    """Place of its first row in the whole dataset."""
    ids: pa.Array
    styles: pa.Array


class DatasetFolder:
    """The port :class:`~llm_engineering.domain.review.ReviewSamples` over ``<root>/<name>/<version>/instruct/*.parquet``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def datasets(self) -> list[str]:
        """See the port."""
        with _told(self._root):
            pointers = {file: file.stat().st_mtime_ns for file in self._root.glob(f"*/{_CURRENT}")}
        return [file.parent.name for file in sorted(pointers, key=lambda file: (-pointers[file], file))]

    def page(
        self, dataset: str, wanted: ReviewFilter, *, decisions: Mapping[str, Decision], after: int, limit: int
    ) -> ReviewPage | None:
        """See the port."""
        with self._opened(dataset) as (version, sides):
            if not version:
                return None
            found = list(islice(_matching(sides, wanted, decisions, after), limit + 1))
            verdicts = Counter(
                decisions[found_id].verdict
                for side in sides
                for found_id in side.ids.to_pylist()
                if found_id in decisions
            )
            return ReviewPage(
                dataset=dataset,
                version=version,
                shown=tuple(shown for _, shown in found[:limit]),
                next=found[limit][0] if len(found) > limit else None,
                total=sum(len(side.ids) for side in sides),
                decided=dict(verdicts),
            )

    def find(self, dataset: str, sample_id: str) -> Shown | None:
        """See the port."""
        with self._opened(dataset) as (_, sides):
            for side in sides:
                row = pc.index(side.ids, sample_id).as_py()
                if row >= 0:
                    return Shown(sample=next(_samples(side, [row]))[1], split=side.split)
        return None

    @contextmanager
    def _opened(self, dataset: str) -> Iterator[tuple[str, list[_Side]]]:
        """The current version and its sides, readable to the end even if it is removed meanwhile; without one ``""``."""
        home = self._root / dataset
        with _told(home), ExitStack() as stack:
            version = _current(home) if home.parent == self._root else ""
            try:
                sides = _sides(home / version, stack) if version else []
            except FileNotFoundError:
                if version == _current(home):
                    raise
                version = _current(home)  # built anew between the pointer and the files
                sides = _sides(home / version, stack) if version else []
            yield version, sides


def _current(home: Path) -> str:
    try:
        return (home / _CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _sides(folder: Path, stack: ExitStack) -> list[_Side]:
    sides, first = [], 0
    for split in Split:
        path = folder / "instruct" / f"{split}.parquet"
        file = stack.enter_context(pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False))
        columns = file.read(columns=["id", "style"])
        sides.append(_Side(split, file, first, columns["id"], columns["style"]))
        first += len(columns)
    return sides


def _matching(
    sides: Sequence[_Side], wanted: ReviewFilter, decisions: Mapping[str, Decision], after: int
) -> Iterator[tuple[int, Shown]]:
    """Places and samples, in order; a text is read only if everything else fits."""
    ids = _decided(decisions, wanted.verdict)
    said = _ids(
        each.sample_id for each in decisions.values() if wanted.text.casefold() in (each.instruction or "").casefold()
    )
    for side in sides:
        if wanted.split not in (None, side.split):
            continue
        fits = pc.greater_equal(pa.array(range(side.first, side.first + len(side.ids)), pa.int64()), after)
        if wanted.style is not None:
            fits = pc.and_(fits, pc.equal(side.styles, wanted.style.value))
        if ids is not None:
            among = pc.is_in(side.ids, value_set=ids)
            fits = pc.and_(fits, pc.invert(among) if wanted.verdict == "undecided" else among)
        rows = pc.indices_nonzero(fits).to_pylist()
        for row, sample in _samples(side, rows, text=wanted.text, said=said):
            yield side.first + row, Shown(sample=sample, split=side.split)


def _samples(
    side: _Side, rows: Sequence[int], *, text: str = "", said: pa.Array = None
) -> Iterator[tuple[int, Sample]]:
    """These rows (ascending) that hold the text, a few hundred in memory at a time; groups without one are not read."""
    begin = 0
    for group in range(side.file.num_row_groups):
        end = begin + side.file.metadata.row_group(group).num_rows
        left = rows[bisect_left(rows, begin) : bisect_left(rows, end)]
        start = begin
        for batch in side.file.iter_batches(_ROWS, row_groups=[group], columns=_COLUMNS) if left else ():
            here = left[bisect_left(left, start) : bisect_left(left, start + len(batch))]
            chosen = batch.take(pa.array([row - start for row in here], pa.int64()))
            holds = _holding(chosen, text, said).to_pylist() if text else [True] * len(here)
            for place, row in enumerate(here):
                if holds[place]:
                    yield row, _sample(chosen.slice(place, 1).to_pylist()[0])
            start += len(batch)
            if start > left[-1]:
                break
        begin = end


def _holding(rows: pa.RecordBatch, text: str, said: pa.Array) -> pa.Array:
    found = pc.is_in(rows["id"], value_set=said)
    for name in ("instruction", "answer", "title"):
        found = pc.or_(found, pc.match_substring(rows[name], text, ignore_case=True))
    return found


def _sample(row: Mapping[str, Any]) -> Sample:
    own = {name: value for name, value in row.items() if name not in _WHERE}
    return Sample.model_validate({**own, "provenance": {name: row[name] for name in _WHERE}})


def _decided(decisions: Mapping[str, Decision], verdict: str | None) -> pa.Array | None:
    if verdict is None:
        return None
    every = verdict in ("decided", "undecided")
    return _ids(each.sample_id for each in decisions.values() if every or each.verdict == verdict)


def _ids(ids: Iterable[str]) -> pa.Array:
    return pa.array(list(ids), pa.string())


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, KeyError, ValidationError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "a file is broken or of another version"
        raise StoreUnavailable(
            f"The dataset in {folder} cannot be read: {reason}", hint="Build it again: poe run-dataset-pipeline"
        ) from error
