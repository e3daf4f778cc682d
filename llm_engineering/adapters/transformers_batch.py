"""Several replies written at once by one model: rows of a batch, each with its own sampling, stops and listener."""

import copy
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llm_engineering.adapters.model_folder import encodable
from llm_engineering.adapters.transformers_folder import first_line
from llm_engineering.domain.answers import Message
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import ModelError, ModelUnavailable, PromptTooLong

_log = logging.getLogger(__name__)
_HALF_CHARACTER = "�"


@dataclass(frozen=True)
class Ended:
    """The end of a row that went well."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


Told = str | Ended | Exception
"""What a listener hears: pieces of text, then how it ended."""


class Speech:
    """Turns tokens into text as they come, and keeps back what may be half a character or the beginning of a stop."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:  # noqa: ANN401 - the library's own is untyped here
        self._tokenizer, self._stops = tokenizer, [stop for stop in stops if stop]
        self.ids: list[int] = []
        self._start = self._read = 0
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Take in a token; returns the text that is certain now."""
        self.ids.append(token)
        # A token alone may decode otherwise than behind its neighbour, so the last piece is decoded along.
        known, text = self._decoded(self.ids[self._start : self._read]), self._decoded(self.ids[self._start :])
        if text.endswith(_HALF_CHARACTER) or len(text) <= len(known):
            return ""
        self._start, self._read = self._read, len(self.ids)
        return self._release(text[len(known) :])

    def rest(self) -> str:
        """What was kept back, at the end."""
        if self.stopped:
            return ""
        known, text = self._decoded(self.ids[self._start : self._read]), self._decoded(self.ids[self._start :])
        said = self._release(text[len(known) :])
        return said if self.stopped else said + self._held

    def _release(self, new: str) -> str:
        held = self._held + new
        places = [place for stop in self._stops if (place := held.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return held[: min(places)]
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        ends = (held[-length:] for length in range(min(longest, len(held)), 0, -1))
        self._held = next((end for end in ends if any(stop.startswith(end) for stop in self._stops)), "")
        return held[: len(held) - len(self._held)]

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class Row:
    """One request: what is asked, how its words are picked, and who listens."""

    def __init__(self, messages: Sequence[Message], sampling: Sampling, tell: Callable[[Told], None]) -> None:
        self.messages, self.sampling, self._tell = messages, sampling, tell
        self.prompt: list[int] = []
        self.left = False
        """Whether nobody listens any more."""
        self.ended = False

    def begin(self, writer: "Writer") -> None:
        """Get ready to be written."""
        self.limit = min(self.sampling.max_tokens, writer.window - len(self.prompt))
        self.speech = Speech(writer.tokenizer, self.sampling.stop)
        self._ends = writer.ends
        self._pick = writer.picker(self.sampling, self.prompt)

    @property
    def picks(self) -> bool:
        """Whether its words are other than the likeliest ones of the model."""
        return self._pick is not None

    def pick(self, seen: torch.Tensor, scores: torch.Tensor) -> int:
        """The next token, from the scores of all of them; ``seen`` are the ids so far."""
        assert self._pick is not None
        return self._pick(seen, scores)

    def add(self, token: int) -> None:
        """Take in the token that was picked."""
        if token in self._ends:
            self._end("stop", tokens=len(self.speech.ids) + 1)
            return
        if piece := self.speech.add(token):
            self._tell(piece)
        if self.speech.stopped:
            self._end("stop")
        elif len(self.speech.ids) >= self.limit:
            self._end("length")

    def fail(self, error: Exception) -> None:
        """Tell why there will be no more."""
        if not self.ended:
            self.ended = True
            self._tell(error)

    def _end(self, reason: str, *, tokens: int | None = None) -> None:
        self.ended = True
        if piece := self.speech.rest():
            self._tell(piece)
        reason = "stop" if self.speech.stopped else reason
        self._tell(Ended(reason, len(self.prompt), len(self.speech.ids) if tokens is None else tokens))


Pick = Callable[[torch.Tensor, torch.Tensor], int]


class Writer:
    """One model and its tokenizer; writes a batch of rows to their ends. Used by one thread at a time."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str, window: int) -> None:  # noqa: ANN401 - peft's, transformers'
        self.model, self.tokenizer, self.name, self.window = model, tokenizer, name, window
        self._own: GenerationConfig = model.generation_config
        ends = self._own.eos_token_id
        self.ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends] if ends is not None else [])}
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def write(self, rows: Sequence[Row]) -> None:
        """Write the rows until each has ended; one whose listener left ends at the next token."""
        for row in rows:
            try:
                row.prompt = self._read(row.messages)
                row.begin(self)
            except ModelError as error:
                row.fail(error)
        rows = [row for row in rows if not row.ended and not row.left]
        if not rows:
            return
        width = max(len(row.prompt) for row in rows)
        ids = torch.tensor([[self._pad] * (width - len(row.prompt)) + row.prompt for row in rows])
        mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
        processors = [_OwnChoice(rows, width)] if any(row.picks for row in rows) else []
        try:
            with torch.inference_mode():
                self.model.generate(
                    input_ids=ids.to(self.model.device),
                    attention_mask=mask.to(self.model.device),
                    generation_config=self._settings(max(row.limit for row in rows)),
                    logits_processor=LogitsProcessorList(processors),
                    stopping_criteria=StoppingCriteriaList([_Listeners(rows)]),
                )
        except (RuntimeError, MemoryError) as error:
            failure = _failure(error, self.name, len(rows))
            failure.__cause__ = error
            for row in rows:
                row.fail(failure)

    def picker(self, sampling: Sampling, prompt: Sequence[int]) -> Pick | None:
        """How words are picked: as asked for, else as the model's own settings say; ``None`` for the likeliest ones.

        A seed is that of one ``prompt``: replies to several prompts with one seed would all end at the same unlikely draw.
        """
        own = self._own
        temperature = sampling.temperature
        if temperature is None:
            temperature = (1.0 if own.temperature is None else own.temperature) if own.do_sample else 0.0
        penalty = sampling.repetition_penalty or own.repetition_penalty or 1.0
        shaping: list[Any] = []
        if temperature > 0:
            shaping.append(TemperatureLogitsWarper(float(temperature)))
            if top_k := sampling.top_k or own.top_k:
                shaping.append(TopKLogitsWarper(top_k))
            if (top_p := sampling.top_p or own.top_p) and top_p < 1:
                shaping.append(TopPLogitsWarper(top_p))
        if penalty != 1.0:
            shaping.insert(0, RepetitionPenaltyLogitsProcessor(float(penalty)))
        if not shaping:
            return None
        generator = torch.Generator()
        if sampling.seed is None:
            generator.seed()
        else:
            own_seed = hashlib.sha256(f"{sampling.seed} {list(prompt)}".encode()).digest()
            generator.manual_seed(int.from_bytes(own_seed[:8]))

        def pick(seen: torch.Tensor, scores: torch.Tensor) -> int:
            shaped = scores[None]
            for shape in shaping:
                shaped = shape(seen[None], shaped)
            if temperature == 0:
                return int(shaped.argmax())
            # On the CPU, so that a seed gives the same words on every device.
            return int(torch.multinomial(shaped[0].softmax(-1).cpu(), 1, generator=generator))

        return pick

    def _read(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation in the model's own template: exactly what training rendered."""
        from jinja2 import TemplateError

        turns = [{"role": message.role, "content": encodable(message.content)} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ModelUnavailable(
                f"The chat template of {self.name} refuses the conversation: {first_line(error)}",
                hint="Use a model whose template takes a system message, then user and assistant in turns.",
            ) from error
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= self.window:
            raise PromptTooLong(
                f"The prompt of {len(ids)} tokens is too long for {self.name}, which reads {self.window}",
                hint="Ask something shorter, lower context_tokens, or take a model with a longer window.",
            )
        return ids

    def _settings(self, limit: int) -> GenerationConfig:
        """The model's own settings but for what :meth:`picker` does. Numbers that change nothing stand where ``None`` would:
        what is ``None`` is filled in again from the model's own.
        """
        settings = copy.deepcopy(self._own)
        settings.update(
            do_sample=False, temperature=1.0, top_k=50, top_p=1.0, min_p=None, typical_p=1.0, num_beams=1,
            repetition_penalty=1.0, max_length=None, max_new_tokens=limit, use_cache=True,
            pad_token_id=self._pad, eos_token_id=sorted(self.ends), return_dict_in_generate=False,
        )  # fmt: skip
        return settings


class _OwnChoice(LogitsProcessor):
    """Leaves each row the one token that its own sampling picks: one batch serves every sampling."""

    def __init__(self, rows: Sequence[Row], width: int) -> None:
        self._rows, self._width = rows, width

    def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ANN401 - the library's own signature
        chosen = torch.full_like(scores, float("-inf"))
        for number, row in enumerate(self._rows):
            if row.ended or row.left or not row.picks:
                chosen[number] = scores[number]
            else:
                seen = input_ids[number, self._width - len(row.prompt) :]
                chosen[number, row.pick(seen, scores[number])] = 0.0
        return chosen


class _Listeners(StoppingCriteria):
    """Hands each new token to its row; a row is done when it has ended or nobody listens."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ANN401 - the library's own signature
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            if not row.ended and not row.left:
                row.add(token)
        return torch.tensor([row.ended or row.left for row in self._rows], device=input_ids.device)


def _failure(error: BaseException, name: str, rows: int) -> ModelUnavailable:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        return ModelUnavailable(
            f"{name} ran out of memory while writing {rows} replies at once",
            hint="Lower chat.concurrency, context_tokens or sampling.max_tokens, or set chat.quantization to nf4.",
        )
    return ModelUnavailable(f"{name} failed while writing: {first_line(error)}", hint="Look at the log; ask again.")
