"""From a sample to token ids: ``domain/chat.py``'s messages in the tokenizer's own chat template, and labels for the answer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.errors import UsageError
from llm_engineering.training.data import Example, Preference

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of a token that is no part of the loss."""


class Rendered(NamedTuple):
    """The text that a model reads and the text that it writes, as bytes apart: no template stands between."""

    prompt: str
    completion: str


class Tokens(NamedTuple):
    """One training row: ``labels`` equal ``input_ids`` on the answer and are ignored on the prompt."""

    input_ids: list[int]
    labels: list[int]


def messages(instruction: str, *, author: str | None) -> list[dict[str, str]]:
    """The conversation that asks for a text in the author's voice, as evaluation and serving send it."""
    prompt = voice_prompt(instruction, author=author)
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


def render(tokenizer: "PreTrainedTokenizerBase", asked: list[dict[str, str]], answer: str) -> Rendered:
    """Prompt and completion in the tokenizer's template; the completion ends with the end-of-turn token.

    What a template writes after that token is left out: serving stops there.
    """
    prompt = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": answer}], tokenize=False))
    if not whole.startswith(prompt):
        raise UsageError(
            "The chat template writes a conversation otherwise than its own prompt for a reply",
            hint="Use a base whose template begins both alike, such as an instruct model without thinking.",
        )
    completion = whole[len(prompt) :]
    end = str(tokenizer.eos_token)
    cut = completion.rfind(end)
    return Rendered(prompt, completion[: cut + len(end)] if cut >= 0 else completion + end)


def tokens(tokenizer: "PreTrainedTokenizerBase", rendered: Rendered) -> Tokens:
    """Token ids of prompt and completion, each for itself: exactly what a served request begins with, then the answer."""
    prompt = encoded(tokenizer, rendered.prompt)
    completion = encoded(tokenizer, rendered.completion)
    return Tokens(prompt + completion, [IGNORED] * len(prompt) + completion)


def encoded(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of text that brings its own special tokens."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
    """Raise :class:`UsageError` for a tokenizer that cannot render a conversation or mark its end."""
    if not tokenizer.chat_template:
        raise UsageError(
            f"The tokenizer of {name} has no chat template",
            hint="Use an instruct model, or a base whose folder has a chat_template.jinja.",
        )
    if tokenizer.eos_token is None:
        raise UsageError(f"The tokenizer of {name} has no end-of-turn token", hint="Use an instruct model.")


class PairTokens(NamedTuple):
    """One pair under the names of TRL's collator: every token of an answer is learnt from, none of the prompt."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def longest(self) -> int:
        """Tokens of the prompt with the longer answer."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


class FittingPairs(NamedTuple):
    """Pairs that fit the context, and how many did not."""

    rows: list[PairTokens]
    too_long: int


class Fitting(NamedTuple):
    """Rows that fit the context, and how many did not."""

    rows: list[Tokens]
    too_long: int


def fitting_examples(tokenizer: "PreTrainedTokenizerBase", examples: Iterable[Example], *, context: int) -> Fitting:
    """The token rows of the examples. One that is longer than the context is left out: a cut answer teaches to break off."""
    rows = [
        tokens(tokenizer, render(tokenizer, messages(example.instruction, author=example.author), example.answer))
        for example in examples
    ]
    kept = [row for row in rows if len(row.input_ids) <= context]
    return Fitting(kept, len(rows) - len(kept))


def fitting_preferences(
    tokenizer: "PreTrainedTokenizerBase", pairs: Iterable[Preference], *, context: int
) -> FittingPairs:
    """The token ids of the pairs: each side those of a sample. One whose longer side exceeds the context is left out."""
    rows = []
    for pair in pairs:
        asked = messages(pair.instruction, author=pair.author)
        chosen, rejected = (render(tokenizer, asked, answer) for answer in (pair.chosen, pair.rejected))
        prompt, answers = chosen.prompt, (chosen.completion, rejected.completion)
        rows.append(PairTokens(encoded(tokenizer, prompt), *(encoded(tokenizer, answer) for answer in answers)))
    kept = [row for row in rows if row.longest <= context]
    return FittingPairs(kept, len(rows) - len(kept))


def require_rows(count: int, *, split: str, context: int) -> None:
    """Raise :class:`UsageError` when nothing of a split fits."""
    if not count:
        raise UsageError(
            f"All samples of the {split} split are longer than the context of {context} tokens",
            hint="Raise `context`, or build the dataset with shorter passages.",
        )
