"""One prompt wording: what is trained on is what serving sends, byte for byte, and only the answer is learnt."""

import pytest
from inline_snapshot import snapshot

from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.errors import UsageError
from llm_engineering.training.data import Example, Preference
from llm_engineering.training.render import (
    IGNORED,
    check_tokenizer,
    fitting_examples,
    fitting_preferences,
    messages,
    render,
    tokens,
)
from tests.doubles.training import AUTHOR


@pytest.fixture(scope="module")
def tokenizer(trained):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(trained[0] / "base")


def test_the_rendered_text_of_a_sample(tokenizer):
    rendered = render(tokenizer, messages("What colour is chunk 1?", author=AUTHOR), "My chunk 1 is green.")
    assert rendered.prompt + rendered.completion == snapshot("""\
<|im_start|>system
You are the writing twin of Ada Winter. You speak in the first person, as Ada Winter, in the voice of the writings.
Reply with the text itself, as you would have written it.<|im_end|>
<|im_start|>user
Task: What colour is chunk 1?<|im_end|>
<|im_start|>assistant
My chunk 1 is green.<|im_end|>\
""")


def test_the_prompt_is_what_a_served_request_renders_to(tokenizer):
    from llm_engineering.adapters.openai_request import asked
    from llm_engineering.domain.config import Sampling

    request = asked(voice_prompt("What colour is chunk 1?", author=AUTHOR).messages, Sampling())["messages"]
    served = tokenizer.apply_chat_template(request, tokenize=False, add_generation_prompt=True)
    trained_on = render(tokenizer, messages("What colour is chunk 1?", author=AUTHOR), "Green.").prompt
    assert trained_on.encode() == served.encode()


def test_the_token_ids_begin_as_a_served_request_does(tokenizer):
    served = tokenizer.apply_chat_template(messages("Why?", author=AUTHOR), add_generation_prompt=True)["input_ids"]
    row = tokens(tokenizer, render(tokenizer, messages("Why?", author=AUTHOR), "\n\nBecause."))
    assert row.input_ids[: len(served)] == served


def test_only_the_answer_and_its_end_are_learnt(tokenizer):
    row = tokens(tokenizer, render(tokenizer, messages("Why?", author=AUTHOR), "Because it is so."))
    learnt = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(learnt) == "Because it is so.<|im_end|>"
    assert [i for i, label in zip(row.input_ids, row.labels, strict=True) if label != IGNORED] == learnt


def test_the_trainer_learns_from_the_same_labels(trained, tokenizer, tmp_path):
    """The collator of the real trainer, over two samples of different length."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    rows = [
        tokens(tokenizer, render(tokenizer, messages("Why?", author=None), text)) for text in ("Yes.", "No, never.")
    ]
    batch = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)([row._asdict() for row in rows])
    for row, labels in zip(rows, batch["labels"].tolist(), strict=True):
        assert labels[: len(row.labels)] == row.labels
        assert set(labels[len(row.labels) :]) <= {IGNORED}


def test_a_pair_has_the_tokens_of_a_sample_with_its_chosen_answer(tokenizer):
    [pair], _ = fitting_preferences(tokenizer, [Preference("Why?", "\n\nBecause.", "No idea.", AUTHOR)], context=256)
    sample = tokens(tokenizer, render(tokenizer, messages("Why?", author=AUTHOR), "\n\nBecause."))
    assert pair.prompt_ids + pair.chosen_ids == sample.input_ids


def test_a_pair_is_left_out_for_its_longer_side(tokenizer):
    pairs = [Preference("Why?", "Because.", "Because. " * 100, AUTHOR)]
    assert fitting_preferences(tokenizer, pairs, context=200).too_long == 1
    longest = fitting_preferences(tokenizer, pairs, context=10_000).rows[0].longest
    assert not fitting_preferences(tokenizer, pairs, context=longest).too_long
    assert fitting_preferences(tokenizer, pairs, context=longest - 1).too_long


def test_samples_longer_than_the_context_are_left_out_and_counted(tokenizer):
    examples = [Example("Why?", "Because.", AUTHOR), Example("Why?", "Because. " * 100, AUTHOR)]
    fitting = fitting_examples(tokenizer, examples, context=200)
    assert (len(fitting.rows), fitting.too_long) == (1, 1)


def test_a_tokenizer_without_a_chat_template_is_refused(tokenizer):
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(UsageError, match="The tokenizer of some/base has no chat template"):
        check_tokenizer(bare, "some/base")


def test_a_template_that_thinks_before_it_answers_is_refused(tokenizer):
    import copy

    thinking = copy.deepcopy(tokenizer)
    thinking.chat_template = (
        "{% for m in messages %}{{ m.content }}|{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
    )
    with pytest.raises(UsageError, match="otherwise than its own prompt"):
        render(thinking, messages("Why?", author=None), "Because.")
