"""A local model as a chat model: the trained twin, or any folder that transformers can load. No server, no network."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_engineering.adapters.openai_structured import asking_for, faults, read_json, repairing
from llm_engineering.adapters.transformers_folder import (
    find_local_model,
    load_model,
    load_tokenizer,
    release_memory,
    window_of,
)
from llm_engineering.domain.answers import Message, Prompt, Reply
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.errors import ModelError, ModelReplyInvalid, ModelUnavailable
from llm_engineering.domain.ports import Structured

if TYPE_CHECKING:
    from llm_engineering.adapters.transformers_batch import Row, Told, Writer

_MOST_ROWS = 16
"""Replies that are written at once: each has a KV cache of its own."""
_GATHER = 0.01
"""Seconds for which the first request waits for others that come at the same time."""


class TransformersChatModel:
    """The port :class:`~llm_engineering.domain.ports.ChatModel` on a folder of weights, in this process.

    The folder is looked at when it is made (:class:`UsageError`), the weights are loaded by :meth:`check` or the first
    request. Requests that come together are written as one batch of at most ``config.concurrency`` (and 16) rows, in a thread of
    its own; those that come later wait until that batch is done. Many users at once are served better by vLLM.
    A caller who leaves ends its row at the next token. The same seed gives the same words. Token counts are exact.
    """

    def __init__(self, folder: Path, config: ChatConfig, *, name: str | None = None) -> None:
        self._found = find_local_model(folder)
        self._tokenizer = load_tokenizer(self._found)
        self.window = window_of(self._found, self._tokenizer)
        """Tokens of prompt and reply together."""
        self._name = name or folder.name
        self._config = config
        self._worker: _Worker | None = None
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")  # nobody else's threads wait for the weights
        self._counting = threading.Lock()

    @property
    def name(self) -> str:
        """What it was called when it was opened, or the folder's name."""
        return self._name

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        """The whole reply, within ``config.timeout`` once the weights are there."""
        return await self._complete(prompt.messages, sampling)

    async def stream(self, prompt: Prompt, *, sampling: Sampling) -> AsyncIterator[str | Reply]:
        """Pieces as they are written, then the :class:`Reply`. Closing the generator ends the writing."""
        async with aclosing(self._pieces(prompt.messages, sampling, patience=self._config.timeout)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def structured(
        self, prompt: Prompt, *, shape: type[Structured], sampling: Sampling
    ) -> tuple[Structured, Reply]:
        """A reply validated as ``shape``; the model is told the schema, and once what is wrong with its reply."""
        messages = asking_for(shape, prompt.messages)
        reply = await self._complete(messages, sampling)
        try:
            return read_json(reply.text, shape), reply
        except ValueError as fault:
            messages = repairing(messages, reply.text, fault)
        spent = (reply.prompt_tokens, reply.completion_tokens)
        try:
            reply = await self._complete(messages, sampling)
        except ModelError as error:
            error.tokens = (spent[0] + error.tokens[0], spent[1] + error.tokens[1])
            raise
        tokens = (spent[0] + reply.prompt_tokens, spent[1] + reply.completion_tokens)
        reply = reply.model_copy(update={"prompt_tokens": tokens[0], "completion_tokens": tokens[1]})
        try:
            return read_json(reply.text, shape), reply
        except ValueError as fault:
            raise ModelReplyInvalid(
                f"{self.name} gave no valid {shape.__name__} in two tries: {faults(fault).removeprefix('- ').splitlines()[0]}",
                hint="Raise sampling.max_tokens." if reply.finish_reason == "length" else "Take a more capable model.",
                tokens=tokens,
                said=reply.text,
            ) from fault

    def count_tokens(self, text: str) -> int:
        """Length in the model's own tokens, exactly."""
        from llm_engineering.adapters.model_folder import encodable

        with self._counting:
            return len(self._tokenizer(encodable(text), add_special_tokens=False, verbose=False)["input_ids"])

    async def check(self) -> None:
        """Load the weights, once; :class:`ModelUnavailable` where that fails."""
        await self._ready()

    async def close(self) -> None:
        """Let go of the weights and their memory; a later request loads them again. Requests under way fail."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.stop)
            del worker
            await asyncio.to_thread(release_memory)

    async def _ready(self) -> "_Worker":
        worker = self._worker
        if worker is not None:
            return worker
        return await asyncio.get_running_loop().run_in_executor(self._loader, self._load)

    def _load(self) -> "_Worker":
        if (worker := self._worker) is None:
            from llm_engineering.adapters.transformers_batch import Writer

            model = load_model(self._found, quantization=self._config.quantization)
            writer = Writer(model, self._tokenizer, name=self._name, window=self.window)
            worker = _Worker(writer, size=min(self._config.concurrency, _MOST_ROWS))
            self._worker = worker
        return worker

    async def _complete(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        try:
            await self._ready()
            async with asyncio.timeout(self._config.timeout), aclosing(self._pieces(messages, sampling)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        return piece
        except TimeoutError as error:
            raise self._too_slow("did not finish its reply") from error
        raise ModelUnavailable(f"{self.name} ended without a reply", hint="Ask again.")

    async def _pieces(
        self, messages: Sequence[Message], sampling: Sampling, *, patience: float | None = None
    ) -> AsyncIterator[str | Reply]:
        """Pieces and the reply; waits at most ``patience`` seconds for each."""
        from llm_engineering.adapters.transformers_batch import Row

        worker = await self._ready()
        loop, heard = asyncio.get_running_loop(), asyncio.Queue["Told"]()

        def tell(said: "Told") -> None:
            try:
                loop.call_soon_threadsafe(heard.put_nowait, said)
            except RuntimeError:  # the loop is closed: nobody listens any more
                row.left = True

        row = Row(messages, sampling, tell)
        worker.submit(row)
        said: list[str] = []
        try:
            while True:
                try:
                    async with asyncio.timeout(patience):
                        piece = await heard.get()
                except TimeoutError as error:
                    raise self._too_slow(f"fell silent after {sum(map(len, said))} characters") from error
                if isinstance(piece, Exception):
                    raise piece
                if not isinstance(piece, str):
                    break
                said.append(piece)
                yield piece
        finally:
            row.left = True
        text, tokens = "".join(said), (piece.prompt_tokens, piece.completion_tokens)
        if not text.strip():
            hint = "Raise sampling.max_tokens." if piece.finish_reason == "length" else "Ask again, or in other words."
            raise ModelReplyInvalid(f"{self.name} answered without any text", hint=hint, tokens=tokens)
        yield Reply(
            text=text,
            model=self.name,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            finish_reason=piece.finish_reason,
        )

    def _too_slow(self, what: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"{self.name} {what} within {self._config.timeout:g} s",
            hint="Raise chat.timeout, lower sampling.max_tokens, or take a smaller model.",
            reason="timed-out",
        )


class _Worker:
    """A thread that writes what is asked, batch after batch."""

    def __init__(self, writer: "Writer", *, size: int) -> None:
        self._writer, self._size = writer, size
        self._waiting: deque[Row] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._writing: Sequence[Row] = ()
        self._thread = threading.Thread(target=self._run, name=f"writes {writer.name}", daemon=True)
        self._thread.start()

    def submit(self, row: "Row") -> None:
        """Put the row in the queue; its listener hears of it."""
        with self._changed:
            if self._stopping:
                row.fail(self._closed())
                return
            self._waiting.append(row)
            self._changed.notify()

    def stop(self) -> None:
        """End the thread; rows under way and in the queue fail."""
        with self._changed:
            self._stopping = True
            for row in (*self._writing, *self._waiting):
                row.left = True
                row.fail(self._closed())
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while rows := self._next():
            try:
                self._writer.write(rows)
            except Exception as error:  # noqa: BLE001 - a defect must reach those who wait, and not end the thread
                _fail(rows, error)
        self._writer = None  # type: ignore[assignment]  # lets go of the weights

    def _next(self) -> "Sequence[Row]":
        """The rows that are written together next; none when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            self._changed.wait_for(lambda: len(self._waiting) >= self._size or self._stopping, timeout=_GATHER)
            count = min(self._size, len(self._waiting))
            self._writing = [self._waiting.popleft() for _ in range(count)]
            return self._writing

    def _closed(self) -> ModelUnavailable:
        return ModelUnavailable(f"{self._writer.name} was closed", hint="Ask again.")


def _fail(rows: "Sequence[Row]", error: Any) -> None:  # noqa: ANN401 - any exception
    for row in rows:
        row.fail(error)
