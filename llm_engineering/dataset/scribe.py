"""Writing to the journal while calls go on, as few transactions as there can be."""

import asyncio

from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.samples import JournalEntry


class Scribe:
    """Writes to the journal: what has gathered while one transaction is made to last goes into the next."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._waiting: list[tuple[JournalEntry, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, entry: JournalEntry) -> bool:
        """Durable on return; false if it may not be kept."""
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await kept

    async def finish(self) -> None:
        """Return when nothing waits any more."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                refused = await asyncio.to_thread(self._warehouse.save_journal, [entry for entry, _ in batch])
            except Exception as error:  # noqa: BLE001  # each writer gets it
                for _, kept in batch:
                    if not kept.done():
                        kept.set_exception(error)
                continue
            for entry, kept in batch:
                if not kept.done():
                    kept.set_result(entry.key not in refused)
