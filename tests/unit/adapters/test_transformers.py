"""The local model: what a folder may hold, whose words come back, and what a caller may do meanwhile."""

import asyncio
import importlib.util
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_engineering.adapters.transformers import TransformersChatModel
from llm_engineering.domain.answers import Message, Prompt, Reply
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.errors import (
    MissingExtra,
    ModelError,
    ModelReplyInvalid,
    ModelUnavailable,
    PromptTooLong,
    UsageError,
)
from tests.doubles.tiny_adapter import make_tiny_adapter, make_tiny_base, retold

GREEDY = Sampling(temperature=0, max_tokens=12)
SHORT = voice_prompt("Write a note on logs.", author="Ann Lee")
LONG = voice_prompt("Write about queues, and why an ordered log is more than one of them. " * 3, author="Ann Lee")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_adapter(base, tmp_path_factory.mktemp("run") / "adapter")


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "copied"))


def answers(folder: Path, *asked: tuple[Prompt, Sampling], name: str | None = None, bits: str = "none") -> list[Reply]:
    """The replies to all of these, asked at the same time."""

    async def ask() -> list[Reply]:
        model = TransformersChatModel(folder, ChatConfig(quantization=bits), name=name)  # type: ignore[arg-type]
        try:
            return await asyncio.gather(*(model.complete(prompt, sampling=sampling) for prompt, sampling in asked))
        finally:
            await model.close()

    return asyncio.run(ask())


async def pieces(model: TransformersChatModel, sampling: Sampling) -> list[str]:
    return [piece async for piece in model.stream(SHORT, sampling=sampling) if isinstance(piece, str)]


def test_company_in_a_batch_changes_no_word(base: Path) -> None:
    sampled = Sampling(temperature=1.2, top_k=30, top_p=0.9, repetition_penalty=1.3, seed=7, max_tokens=9)
    asked = [(SHORT, GREEDY), (LONG, sampled), (SHORT, sampled), (LONG, GREEDY)]
    together = answers(base, *asked)
    assert together == [answers(base, each)[0] for each in asked]
    assert len({reply.text for reply in together}) == 4


def test_the_same_seed_gives_the_same_words_and_another_one_others(base: Path) -> None:
    one, same, other = answers(
        base, *((SHORT, Sampling(temperature=1.5, seed=seed, max_tokens=12)) for seed in (1, 1, 2))
    )
    assert one.text == same.text != other.text


def test_replies_to_different_prompts_draw_differently_under_one_seed(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all of them end with the one draw that is unlikely enough for the end of the turn."""
    import torch

    drawn: list[torch.Generator] = []
    picked = torch.multinomial

    def multinomial(shares: torch.Tensor, count: int, *, generator: torch.Generator) -> torch.Tensor:
        drawn.append(generator)
        return picked(shares, count, generator=generator)

    monkeypatch.setattr("torch.multinomial", multinomial)
    sampling = Sampling(temperature=1.0, seed=7, max_tokens=1)
    answers(base, (SHORT, sampling), (LONG, sampling), (SHORT, sampling))
    first, second, third = (generator.initial_seed() for generator in drawn)
    assert first == third != second


def test_a_penalty_on_repetition_changes_what_is_likeliest(base: Path) -> None:
    plain, penalised = answers(
        base, (SHORT, GREEDY), (SHORT, Sampling(temperature=0, repetition_penalty=5, max_tokens=12))
    )
    assert plain.text != penalised.text


def test_what_is_left_open_follows_the_models_own_settings(copied: Path) -> None:
    retold(copied, "generation_config.json", do_sample=True, temperature=2.0)
    open_, greedy = answers(copied, (SHORT, Sampling(temperature=None, seed=1, max_tokens=12)), (SHORT, GREEDY))
    assert open_.text != greedy.text


@pytest.mark.parametrize("asked", [None, 1.0, 1.2])
def test_a_penalty_of_the_models_own_is_applied_once_and_gives_way_to_another(
    base: Path, copied: Path, asked: float | None
) -> None:
    retold(copied, "generation_config.json", repetition_penalty=1.2)
    sampling = Sampling(temperature=0, repetition_penalty=asked, max_tokens=60)
    expected = Sampling(temperature=0, repetition_penalty=asked or 1.2, max_tokens=60)
    [shipped], [plain] = answers(copied, (SHORT, sampling)), answers(base, (SHORT, expected))
    assert shipped.text == plain.text


def test_counts_are_those_of_the_rendered_prompt(base: Path) -> None:
    from transformers import AutoTokenizer

    from llm_engineering.training.render import encoded, messages, render

    tokenizer = AutoTokenizer.from_pretrained(base)
    trained = render(tokenizer, messages("Write a note on logs.", author="Ann Lee"), "x")
    [reply] = answers(base, (SHORT, GREEDY))
    assert (reply.prompt_tokens, reply.completion_tokens) == (len(encoded(tokenizer, trained.prompt)), 12)
    assert reply.finish_reason == "length"


def test_a_served_prompt_is_byte_for_byte_the_one_of_training(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_engineering.adapters.transformers_batch import Writer
    from llm_engineering.training.render import encoded, messages, render

    read: list[Sequence[int]] = []
    original = Writer._read
    monkeypatch.setattr(Writer, "_read", lambda self, turns: read.append(original(self, turns)) or read[-1])
    answers(base, (SHORT, GREEDY))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    assert read == [
        encoded(tokenizer, render(tokenizer, messages("Write a note on logs.", author="Ann Lee"), "x").prompt)
    ]


ALTERNATING = """{%- for message in messages if message['role'] != 'system' -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
{{ message['role'] }}: {{ message['content'] }}
{%- endfor -%}"""


def test_a_conversation_that_does_not_alternate_is_read_by_a_template_that_wants_it_to(copied: Path) -> None:
    (copied / "chat_template.jinja").write_text(ALTERNATING)
    said = [("assistant", "Ask!"), ("user", "Hi."), ("assistant", "Hello."), ("user", "One."), ("user", "Two.")]
    history = [Message(role=role, content=content) for role, content in said]  # type: ignore[arg-type]
    assert answers(copied, (voice_prompt("Why?", author="Ann Lee", history=history), GREEDY))[0].text


def test_a_reply_ends_before_a_stop_string_and_shows_nothing_of_it(base: Path) -> None:
    [whole] = answers(base, (SHORT, GREEDY))
    stop = whole.text[7:12]

    async def streamed() -> list[str]:
        model = TransformersChatModel(base, ChatConfig())
        try:
            return await pieces(model, GREEDY.model_copy(update={"stop": ("never said", stop)}))
        finally:
            await model.close()

    assert "".join(asyncio.run(streamed())) == whole.text[: whole.text.find(stop)]


def test_a_reply_ends_at_the_end_of_turn(copied: Path) -> None:
    [first] = answers(copied, (SHORT, GREEDY))
    from transformers import AutoTokenizer

    said = AutoTokenizer.from_pretrained(copied)(first.text, add_special_tokens=False)["input_ids"]
    retold(copied, "generation_config.json", eos_token_id=[3, said[4]])
    [ended] = answers(copied, (SHORT, GREEDY))
    assert ended.finish_reason == "stop"
    assert first.text.startswith(ended.text)
    assert ended.completion_tokens < first.completion_tokens


def test_whoever_leaves_ends_the_writing(base: Path) -> None:
    async def leave_then_count() -> int:
        model = TransformersChatModel(base, ChatConfig())
        steps = 0

        def count(*_: object) -> None:
            nonlocal steps
            steps += 1

        try:
            (await model._ready())._writer.model.register_forward_hook(count)
            async with aclosing(model.stream(SHORT, sampling=Sampling(temperature=0, max_tokens=900))) as stream:  # type: ignore[type-var]
                await anext(stream)
            await model.complete(SHORT, sampling=Sampling(temperature=0, max_tokens=2))
            return steps
        finally:
            await model.close()

    assert asyncio.run(leave_then_count()) < 450


def test_a_cancelled_request_ends_the_writing_too(base: Path) -> None:
    async def cancel() -> str:
        model = TransformersChatModel(base, ChatConfig())
        try:
            await model.check()
            task = asyncio.create_task(model.complete(SHORT, sampling=Sampling(max_tokens=900)))
            while not (model._worker and model._worker._writing):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return (await model.complete(SHORT, sampling=GREEDY)).text
        finally:
            await model.close()

    assert asyncio.run(cancel())


def test_the_event_loop_goes_on_while_a_reply_is_written(base: Path) -> None:
    async def turns_meanwhile() -> int:
        model = TransformersChatModel(base, ChatConfig())
        try:
            await model.check()
            task, turns = asyncio.create_task(model.complete(SHORT, sampling=GREEDY)), 0
            while not task.done():
                turns += 1
                await asyncio.sleep(0)
            return turns
        finally:
            await model.close()

    assert asyncio.run(turns_meanwhile()) > 20


def test_the_weights_are_loaded_in_a_thread_that_nobody_else_waits_for(base: Path) -> None:
    async def load_while_all_others_are_taken() -> None:
        release = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        taken = loop.run_in_executor(None, release.wait)
        model = TransformersChatModel(base, ChatConfig())
        async with asyncio.timeout(120):
            await model.check()
        release.set()
        await taken
        await model.close()

    asyncio.run(load_while_all_others_are_taken())


def test_closing_fails_those_who_wait_and_it_opens_again(base: Path) -> None:
    async def close_and_ask() -> Reply:
        model = TransformersChatModel(base, ChatConfig())
        await model.check()
        task = asyncio.create_task(model.complete(SHORT, sampling=Sampling(max_tokens=900)))
        await asyncio.sleep(0)
        await model.close()
        with pytest.raises(ModelUnavailable, match="closed"):
            await task
        try:
            return await model.complete(SHORT, sampling=GREEDY)
        finally:
            await model.close()

    assert asyncio.run(close_and_ask()).text


def test_a_reply_that_takes_too_long_is_given_up(base: Path) -> None:
    async def ask() -> None:
        model = TransformersChatModel(base, ChatConfig(timeout=1e-6))
        try:
            await model.complete(SHORT, sampling=GREEDY)
        finally:
            await model.close()

    with pytest.raises(ModelUnavailable, match="within 1e-06 s") as failure:
        asyncio.run(ask())
    assert failure.value.reason == "timed-out"


def test_a_structured_reply_that_fails_twice_says_what_it_cost(base: Path) -> None:
    class Verdict(BaseModel):
        sure: bool

    async def ask() -> None:
        model = TransformersChatModel(base, ChatConfig())
        try:
            await model.structured(SHORT, shape=Verdict, sampling=GREEDY)
        finally:
            await model.close()

    with pytest.raises(ModelReplyInvalid, match="in two tries") as refusal:
        asyncio.run(ask())
    assert refusal.value.tokens[1] == 2 * GREEDY.max_tokens
    assert refusal.value.said


def test_a_prompt_that_does_not_fit_costs_its_neighbours_nothing(base: Path) -> None:
    async def ask() -> list[Reply | BaseException]:
        model = TransformersChatModel(base, ChatConfig())
        endless = Prompt(messages=(Message(role="user", content="words " * 2000),), question="")
        try:
            return await asyncio.gather(
                *(model.complete(prompt, sampling=GREEDY) for prompt in (endless, SHORT)), return_exceptions=True
            )
        finally:
            await model.close()

    refused, answered = asyncio.run(ask())
    assert isinstance(refused, PromptTooLong)
    assert "too long" in str(refused)
    assert isinstance(answered, Reply)


def test_lone_surrogates_are_read_and_counted(base: Path) -> None:
    broken = Prompt(messages=(Message(role="user", content="half \ud83d of it"),), question="")
    assert answers(base, (broken, GREEDY))[0].text
    assert TransformersChatModel(base, ChatConfig()).count_tokens("\ud83d") > 0


def test_an_adapter_answers_on_its_base_and_otherwise_than_it(base: Path, adapter: Path) -> None:
    [plain], [adapted] = answers(base, (SHORT, GREEDY)), answers(adapter, (SHORT, GREEDY))
    assert plain.text != adapted.text
    assert answers(adapter.parent, (SHORT, GREEDY), name="twin:ann@1")[0].model == "twin:ann@1"


def test_four_bits_answer_too(adapter: Path) -> None:
    from llm_engineering.adapters.transformers_folder import find_local_model, load_model

    model = load_model(find_local_model(adapter), quantization="nf4")
    assert any(type(module).__name__ == "Linear4bit" for module in model.modules())
    assert answers(adapter, (SHORT, GREEDY), bits="nf4")[0].text


def test_loading_and_writing_leave_the_terminal_alone(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answers(base, (SHORT, GREEDY))
    assert capfd.readouterr() == ("", "")


def test_a_merged_model_goes_before_its_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "merged")
    shutil.copytree(adapter, tmp_path / "adapter")
    assert answers(tmp_path, (SHORT, GREEDY))[0].text == answers(base, (SHORT, GREEDY))[0].text


def test_a_folder_that_is_no_model_says_so(tmp_path: Path) -> None:
    for folder, words in ((tmp_path, "is no model"), (tmp_path / "gone", "does not exist")):
        with pytest.raises(UsageError, match=words):
            TransformersChatModel(folder, ChatConfig())


def test_an_adapter_whose_base_is_gone_names_it(adapter: Path, tmp_path: Path) -> None:
    lonely = Path(shutil.copytree(adapter, tmp_path / "lonely"))
    retold(lonely, "adapter_config.json", base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(UsageError, match=r"needs its base .*gone, which is not there"):
        TransformersChatModel(lonely, ChatConfig())


def test_an_adapter_of_another_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    other = LlamaForCausalLM(
        LlamaConfig(vocab_size=400, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    )
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(adapter).save_pretrained(tmp_path / "other")
    stranger = Path(shutil.copytree(adapter, tmp_path / "stranger"))
    retold(stranger, "adapter_config.json", base_model_name_or_path=str(tmp_path / "other"))
    with pytest.raises(ModelUnavailable, match="belongs to another base"):
        answers(stranger, (SHORT, GREEDY))


def test_a_tokenizer_without_a_chat_template_is_refused(copied: Path) -> None:
    (copied / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="no chat template"):
        TransformersChatModel(copied, ChatConfig())


def test_damaged_weights_are_one_clear_line(copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded") as failure:
        answers(copied, (SHORT, GREEDY))
    assert "\n" not in str(failure.value)


def test_an_adapter_without_peft_names_the_extra(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "llm_engineering.adapters.transformers_folder.find_spec", lambda name: None if name == "peft" else found(name)
    )
    with pytest.raises(MissingExtra, match=r"llm-engineering\[train\]"):
        answers(adapter, (SHORT, GREEDY))


def test_importing_the_adapter_loads_no_engine() -> None:
    code = (
        "import sys, llm_engineering.adapters.transformers; print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def decode(self, ids: Sequence[int], **_: object) -> str:
        return bytes(ids).decode("utf-8", "replace")


@given(st.text(alphabet="abÄ€😀�\n", max_size=30), st.lists(st.text(alphabet="abÄ😀", max_size=4), max_size=3))
def test_pieces_are_the_text_up_to_the_first_stop(text: str, stops: list[str]) -> None:
    from llm_engineering.adapters.transformers_batch import Speech

    speech, said = Speech(Bytes(), stops), []
    for byte in text.encode():
        said.append(speech.add(byte))
        if speech.stopped:
            break
    said.append(speech.rest())
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    ended = [text.find(stop) + len(stop) for stop in stops if stop and stop in text]
    if not places:
        assert "".join(said) == text
    else:
        # Of several stops the one that is complete first ends it.
        first = min(ended)
        assert "".join(said) == text[: min(text[:first].find(stop) for stop in stops if stop and stop in text[:first])]
