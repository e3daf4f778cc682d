"""The chat completions of the OpenAI API: what comes in becomes a question, an answer becomes what clients expect."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from llm_engineering.domain.answers import MARKERS, Answer, Message, Question
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import UsageError
from llm_engineering.serving.events import ALIVE, event, failure
from llm_engineering.serving.service import Event
from llm_engineering.serving.shapes import MAX_K, NO_TEXT, Name, cited

CORRECTION = "This could not be verified as it stands. The verified answer:"
"""Stands in a stream between what a model said and what remains of it."""
_LONGEST_HISTORY = 40


class TextPart(BaseModel):
    """A piece of a message. Pictures and sounds are not understood."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn, in the client's words."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """What a stream tells at its end."""

    include_usage: StrictBool | None = None


class ChatRequest(BaseModel):
    """A chat completion. Fields of the API that mean nothing here are passed over, as servers do."""

    model_config = ConfigDict(extra="ignore")
    model: Annotated[str, StringConstraints(max_length=500)] = ""
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2), NO_TEXT] | None = None
    top_p: Annotated[float, Field(gt=0, le=1), NO_TEXT] | None = None
    top_k: Annotated[int, Field(ge=1, le=1_000_000), NO_TEXT] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10), NO_TEXT] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000), NO_TEXT] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000), NO_TEXT] | None = None
    stop: Annotated[str, StringConstraints(max_length=500)] | Annotated[list[str], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), NO_TEXT] | None = None
    n: Annotated[int, Field(ge=1, le=1), NO_TEXT] | None = None
    author: Name | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K), NO_TEXT] | None = None

    def question(self) -> Question:
        """The last message of the user, which must be the last of all, with what was said before as history.

        Whatever a client puts into system messages keeps that role, which no stage reads: it is no earlier question, and the
        twin's own rules are all that a model gets as its system's. What tools said is told like the twin's own words, which
        never decide what a question means.
        """
        *earlier, last = self.messages
        if last.role != "user" or not any(character.isalnum() for character in last.text):
            raise UsageError("The last message is no question of the user", hint="End messages with one of role user.")
        history = [_turn(message) for message in earlier[-_LONGEST_HISTORY:] if message.text]
        return Question(query=last.text, author=self.author, k=self.k, history=tuple(history))

    def sampling(self, usual: Sampling) -> Sampling:
        """How words are picked: as asked here, else as usual."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop) if self.stop is not None else None
        asked = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "repetition_penalty": self.repetition_penalty,
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "stop": stop,
            "seed": self.seed,
        }
        return usual.model_copy(update={name: value for name, value in asked.items() if value is not None})


def completion(answer: Answer, *, created: int) -> dict[str, Any]:
    """The whole answer as a chat completion; its sources stand in ``citations`` and as footnotes under the text."""
    text = answer.answer + footnotes(answer)
    return {
        **_envelope(answer.request_id, answer.model, created, "chat.completion"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _usage(answer),
        "citations": [citation.model_dump(mode="json") for citation in answer.citations],
        "grounded": answer.grounded,
    }


async def chunks(
    pieces: AsyncIterator[Event | None],
    *,
    request_id: str,
    model: str,
    created: int,
    retry_after: int,
    include_usage: bool,
) -> AsyncIterator[str]:
    """A streamed answer as chunks of a chat completion, ended by ``[DONE]``.

    What was said cannot be taken back here, so that the last text before the footnotes says what of it could not be
    verified (:func:`remainder`); the last chunk has the verified ``citations``, the first one the passages that it is
    written from as ``sources``.
    """

    def chunk(delta: dict[str, str], finish: str | None = None, **more: object) -> str:
        head = _envelope(request_id, model, created, "chat.completion.chunk")
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "choices": [choice], **({"usage": None} if include_usage else {}), **more})

    said = ""
    try:
        async for piece in pieces:
            match piece:
                case None:
                    yield ALIVE
                case str():
                    said += piece
                    yield chunk({"content": piece})
                case Answer():
                    if rest := remainder(said, piece.answer) + footnotes(piece):
                        yield chunk({"content": rest})
                    citations = [citation.model_dump(mode="json") for citation in piece.citations]
                    yield chunk({}, "stop", citations=citations, grounded=piece.grounded)
                    if include_usage:
                        head = _envelope(request_id, model, created, "chat.completion.chunk")
                        yield event({**head, "choices": [], "usage": _usage(piece)})
                case _:
                    yield chunk({"role": "assistant", "content": ""}, sources=[cited(passage) for passage in piece])
    except Exception as error:  # noqa: BLE001  # the answer has begun: what went wrong can only be said in it
        problem = failure(error, request_id=request_id, retry_after=retry_after)
        yield event({"error": error_of(problem)})
    else:
        yield "data: [DONE]\n\n"


def remainder(said: str, verified: str) -> str:
    """What is still to be said behind a reply once it is verified: its rest, or which part of it does not stand.

    Where only markers were taken out, these are named; where words differ, the verified answer follows as a whole.
    """
    if verified.startswith(said):
        return verified[len(said) :]
    if _words(said) != _words(verified):
        return f"\n\n{CORRECTION}\n\n{verified}"
    all_of_them, true_ones = _markers(said), _markers(verified)
    gone = [
        f"[{number}] in {count} of {all_of_them[number]} places" if number in true_ones else f"[{number}]"
        for number, count in sorted((all_of_them - true_ones).items())
    ]
    return f"\n\nCould not be verified: {', '.join(gone)}." if gone else ""


def footnotes(answer: Answer) -> str:
    """The sources as a list under the text: a number, title and address for each marker, once."""
    lines = {f"[{citation.marker}] {citation.title}: {citation.url}": None for citation in answer.citations}
    return "\n\n" + "\n".join(lines) if lines else ""


def models(name: str, *, created: int) -> dict[str, Any]:
    """The list of models: the twin."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": created, "owned_by": "llm-twin"}]}


def error_of(problem: Mapping[str, object]) -> dict[str, object]:
    """A problem in the words of the dialect."""
    return {"message": problem["detail"], "type": problem["type"], "code": problem["status"]}


def model(name: str, asked: str, *, created: int) -> dict[str, Any] | None:
    """The model of that id; ``None`` if it is not the twin."""
    return next((entry for entry in models(name, created=created)["data"] if entry["id"] == asked), None)


def _turn(message: ChatMessage) -> Message:
    match message.role:
        case "system" | "developer":
            return Message(role="system", content=message.text)
        case "user":
            return Message(role="user", content=message.text)
        case _:
            return Message(role="assistant", content=message.text)


def _words(text: str) -> str:
    """The text without markers and white space."""
    return "".join(MARKERS.sub("", text).split())


def _markers(text: str) -> Counter[int]:
    """How many places each marker has in the text."""
    return Counter(number for group in MARKERS.findall(text) for number in set(map(int, re.findall(r"\d+", group))))


def _envelope(request_id: str, model: str, created: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{request_id}", "object": kind, "created": created, "model": model}


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = answer.usage.prompt_tokens, answer.usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
