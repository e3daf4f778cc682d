"""A real OpenAI-compatible server: ``transformers serve`` on the CPU with a tiny model of random weights made on the spot."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 90
"""Seconds that the server may take to start."""
_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


class CannotStart(Exception):
    """The server did not come up here; the text says why."""


def make_tiny_model(folder: Path) -> None:
    """Two layers of random weights behind a byte-level BPE tokenizer; it babbles until ``max_tokens``."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["the user asks and the assistant answers in plain words"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="<|im_end|>", chat_template=_TEMPLATE,
        model_max_length=1024,
    )  # fmt: skip
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, **ids,
        )
    )  # fmt: skip
    # Only printable ASCII: half a character at the end of a piece would make the tests say more about bytes than about chat.
    unprintable = [i for i in range(len(tokenizer)) if not tokenizer.decode([i]).strip().isascii()]
    model.generation_config = GenerationConfig(suppress_tokens=sorted({*range(4), *unprintable}), **ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def tiny_chat_server(folder: Path) -> Iterator[tuple[str, str]]:
    """Base URL and model name of a running server; :class:`CannotStart` where it does not come up in time."""
    program = Path(sys.executable).with_name("transformers")
    if not program.exists():
        raise CannotStart("there is no transformers command beside this Python")
    model = folder / "tiny"
    make_tiny_model(model)
    port, log = _free_port(), folder / "server.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    command = [str(program), "serve", str(model), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder)
    try:
        _await_health(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(model, ignore_errors=True)


def _await_health(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            raise CannotStart(f"it ended with {server.returncode}: {_tail(log)}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise CannotStart(f"it was not up after {PATIENCE} s: {_tail(log)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "it said nothing"
