"""A small base of our own: a byte-level BPE tokenizer and a Llama, trained briefly from scratch, with no download.

It reads the training split's text, or the docstrings of Python's standard library, so that it knows some English and nothing
of the author. Held-out text it never sees. What it is for is running every step of training on any machine, offline.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.chat import VERSION
from llm_engineering.domain.errors import UsageError
from llm_engineering.training.data import Example
from llm_engineering.training.docstrings import docstrings
from llm_engineering.training.folders import finished, unfinished
from llm_engineering.training.recipe import OwnBase, Recipe
from llm_engineering.training.render import messages

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_RECORD = "base.json"
_CHARACTERS_PER_TOKEN = 3
_PAD, _BEGIN, _START, _END = "<pad>", "<s>", "<|im_start|>", "<|im_end|>"
TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def resolve_base(recipe: Recipe, examples: Sequence[Example], folder: Path) -> str:
    """Name or folder of the model that the recipe starts from; an own base is built in ``folder``, once.

    One that read the docstrings of another Python is the same base still: another would make all that follows anew.
    """
    if isinstance(recipe.model, str):
        return recipe.model
    digest = _digest(recipe.model, examples, context=recipe.context, seed=recipe.seed)
    if folder.is_dir():
        if json.loads((folder / _RECORD).read_text(encoding="utf-8"))["digest"] != digest:
            raise UsageError(
                f"The base in {folder} was built from other data or other numbers",
                hint="Give another --out, or remove that folder.",
            )
        return str(folder)
    work = unfinished(folder, anew=True)
    build_base(recipe.model, _texts(recipe.model, examples), work, examples=examples, recipe=recipe)
    (work / _RECORD).write_text(json.dumps({"digest": digest}), encoding="utf-8")
    finished(folder)
    return str(folder)


def build_base(
    numbers: OwnBase, texts: Sequence[str], folder: Path, *, examples: Sequence[Example], recipe: Recipe
) -> None:
    """Write tokenizer and model into ``folder``; the model reads ``texts``, the tokenizer also what it will be trained on."""
    answers = [example.answer for example in examples]
    wording = [
        message["content"] for example in examples for message in messages(example.instruction, author=example.author)
    ]
    written = [*answers, *wording] if texts == answers else [*texts, *answers, *wording]
    tokenizer = train_tokenizer(written, vocabulary=numbers.vocabulary, context=recipe.context)
    model = pretrain(tokenizer, texts, numbers=numbers, context=recipe.context, seed=recipe.seed)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def train_tokenizer(texts: Sequence[str], *, vocabulary: int, context: int) -> "PreTrainedTokenizerFast":
    """A byte-level BPE over the texts: every text can be written in it and read back unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_PAD, _BEGIN, _START, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=_PAD,
        bos_token=_BEGIN,
        eos_token=_END,
        chat_template=TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def pretrain(
    tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], *, numbers: OwnBase, context: int, seed: int
) -> "LlamaForCausalLM":
    """A Llama that has read random windows of the texts; the same texts, numbers and seed give the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=numbers.hidden,
            intermediate_size=numbers.intermediate,
            num_hidden_layers=numbers.layers,
            num_attention_heads=numbers.heads,
            num_key_value_heads=max(1, numbers.heads // 2),
            max_position_embeddings=context,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    end = tokenizer.eos_token_id
    ids = [i for text in texts for i in (*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], end)]
    stream = torch.tensor(ids * math.ceil((numbers.window + 1) / len(ids)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=numbers.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=numbers.learning_rate, total_steps=numbers.steps + 1, pct_start=0.1
    )
    model.train()
    for _ in range(numbers.steps):
        starts = torch.randint(len(stream) - numbers.window + 1, (numbers.batch_size,))
        rows = torch.stack([stream[start : start + numbers.window] for start in starts.tolist()])
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    model.eval()
    return model


def _texts(numbers: OwnBase, examples: Sequence[Example]) -> list[str]:
    """What the model reads: about as much as its steps take in, where there is so much."""
    answers = [example.answer for example in examples]
    if numbers.reads == "corpus":
        return answers
    return docstrings(_CHARACTERS_PER_TOKEN * numbers.steps * numbers.batch_size * numbers.window) or answers


def _digest(numbers: OwnBase, examples: Sequence[Example], *, context: int, seed: int) -> str:
    content = [VERSION, numbers.model_dump(mode="json"), list(examples), context, seed]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "surrogatepass")).hexdigest()[:16]
