"""The same samples in the shapes that trainers read: TRL, alpaca, sharegpt and DPO, as JSON lines."""

import json
from collections.abc import Callable, Iterable

from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.samples import Pair, Sample

Row = dict[str, object]


def messages(instruction: str, *, author: str | None) -> list[dict[str, str]]:
    """The prompt of an instruction, as training, evaluation and serving render it."""
    return [message.model_dump() for message in voice_prompt(instruction, author=author).messages]


def to_messages(sample: Sample) -> Row:
    """TRL's conversational form."""
    prompt = messages(sample.instruction, author=sample.provenance.author)
    return {"messages": [*prompt, {"role": "assistant", "content": sample.answer}]}


def to_alpaca(sample: Sample) -> Row:
    """Alpaca's three fields, and the system prompt beside them."""
    system, user = messages(sample.instruction, author=sample.provenance.author)
    return {"instruction": user["content"], "input": "", "output": sample.answer, "system": system["content"]}


def to_sharegpt(sample: Sample) -> Row:
    """Sharegpt's turns of ``human`` and ``gpt``."""
    system, user = messages(sample.instruction, author=sample.provenance.author)
    turns = [{"from": "human", "value": user["content"]}, {"from": "gpt", "value": sample.answer}]
    return {"conversations": turns, "system": system["content"]}


def to_dpo(pair: Pair) -> Row:
    """TRL's preference form with an explicit prompt."""
    return {
        "prompt": messages(pair.instruction, author=pair.author),
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }


def to_sharegpt_dpo(pair: Pair) -> Row:
    """Sharegpt's preference form."""
    system, user = messages(pair.instruction, author=pair.author)
    return {
        "conversations": [{"from": "human", "value": user["content"]}],
        "chosen": {"from": "gpt", "value": pair.chosen},
        "rejected": {"from": "gpt", "value": pair.rejected},
        "system": system["content"],
    }


SAMPLE_FORMS: dict[str, Callable[[Sample], Row]] = {
    "messages": to_messages,
    "alpaca": to_alpaca,
    "sharegpt": to_sharegpt,
}
PAIR_FORMS: dict[str, Callable[[Pair], Row]] = {"dpo": to_dpo, "sharegpt_dpo": to_sharegpt_dpo}


def json_lines(rows: Iterable[Row]) -> str:
    """One JSON object per line, readable in any language; characters that would break lines are escaped."""
    return "".join(f"{_line(row)}\n" for row in rows)


def _line(row: Row) -> str:
    text = json.dumps(row, ensure_ascii=False)
    for character in "\u2028\u2029\x85":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")
