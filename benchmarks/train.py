"""How fast QLoRA trains and what it needs: our SFT program beside a plain TRL script, and Unsloth where it is installed.

On a CUDA GPU the model has the shape of Llama 3.1 8B and random weights, so nothing is downloaded; about 20 GB of disk are
used for a while. Without a GPU a small shape shows that the program runs, and says nothing about a GPU.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

SHAPES = {
    "cuda": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256,
    },
    "cpu": {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 2_048,
    },
}  # fmt: skip
NUMBERS = {"cuda": {"context": 2048, "batch": 2, "steps": 12}, "cpu": {"context": 256, "batch": 2, "steps": 6}}
RANK = 32
WARM_UP = 3
"""Steps that are not timed."""
PEAKS = {
    "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "4090": 165, "3090": 71,
}  # fmt: skip
"""Dense bf16 TFLOP/s by the vendor's data sheets."""


class Measured(NamedTuple):
    """One program's figures."""

    tokens_per_second: float
    peak_bytes: int


def main() -> int:
    """Print the table; each program in a process of its own, so that its memory is its own."""
    import torch

    from llm_engineering.training.hardware import detect, is_installed, let_go

    hardware = detect()
    numbers = NUMBERS[hardware.device]
    print("## Training\n")
    if hardware.device == "cpu":
        print(
            "There is no CUDA GPU here: the figures of an 8B model in 4 bits need one. A small shape on the CPU instead:\n"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_model(
            folder / "model", SHAPES[hardware.device], context=numbers["context"], cuda=hardware.device == "cuda"
        )
        let_go()  # the programs need the room of the GPU that writing the model took
        write_rows(folder / "dataset", context=numbers["context"], count=2 * numbers["batch"] * numbers["steps"])
        print("| program | tokens/s | peak memory GB | MFU |\n|---|---:|---:|---:|")
        programs = [
            "ours",
            "plain TRL",
            *(["ours with Unsloth"] if is_installed("unsloth") and torch.cuda.is_available() else []),
        ]
        for program in programs:
            measured = _in_a_process(program, folder, hardware.device)
            flops = 4 * size * measured.tokens_per_second
            peak = next((tera * 1e12 for card, tera in PEAKS.items() if card in hardware.name), 0.0)
            share = f"{flops / peak:.1%}" if peak and hardware.device == "cuda" else "–"
            print(
                f"| {program} | {measured.tokens_per_second:,.0f} | {measured.peak_bytes / 1e9:.1f} | {share} |",
                flush=True,
            )
    print(
        f"\n{size / 1e6:,.0f} million parameters of random weights in NF4, LoRA rank {RANK} on all linear layers, contexts of "
        f"{numbers['context']} tokens filled, {numbers['batch']} a step, gradient checkpointing, on {hardware.name}. MFU counts "
        "4 FLOPs a weight and token: frozen weights have no gradient of their own, and recomputation does not count."
    )
    return 0


def write_model(folder: Path, shape: dict[str, int], *, context: int, cuda: bool) -> int:
    """A Llama of the shape with random weights and a tokenizer of bytes beside it; its number of parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from llm_engineering.training.base import train_tokenizer

    tokenizer = train_tokenizer([], vocabulary=300, context=context)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    torch.set_default_dtype(torch.bfloat16 if cuda else torch.float32)
    with torch.device("cuda" if cuda else "cpu"):
        model = LlamaForCausalLM(
            LlamaConfig(**shape, max_position_embeddings=context, tie_word_embeddings=False, **ids)
        )
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.num_parameters()


def write_rows(folder: Path, *, context: int, count: int) -> None:
    """Samples that fill a context each: a byte is a token here, and the prompt takes about 230 of them."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    answer = ("abcdefghijklmnopqrstuvwxyz" * (context // 26 + 1))[: max(8, context - 232)]
    rows = [{"instruction": f"{number:04}", "answer": answer, "author": "A"} for number in range(count)]
    (folder / "instruct").mkdir(parents=True)
    for split, content in (("train", rows), ("validation", rows[:1])):
        parquet.write_table(arrow.Table.from_pylist(content), folder / "instruct" / f"{split}.parquet")


def _in_a_process(program: str, folder: Path, device: str) -> Measured:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train", program, str(folder), device],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def measure(program: str, folder: Path, device: str) -> Measured:
    """Train and time the steps after the warm-up."""
    from transformers import TrainerCallback

    from llm_engineering.training.hardware import detect, peak_memory

    class Clock(TrainerCallback):
        """When each step ended."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
            self.ends.append(time.perf_counter())

    clock, numbers = Clock(), NUMBERS[device]
    (_plain if program == "plain TRL" else _ours)(program, folder, numbers, clock)
    seconds = clock.ends[-1] - clock.ends[WARM_UP - 1]
    tokens = (len(clock.ends) - WARM_UP) * numbers["batch"] * numbers["context"]
    return Measured(tokens / seconds, peak_memory(detect()))


def _ours(program: str, folder: Path, numbers: dict[str, int], clock: Any) -> None:  # noqa: ANN401
    from llm_engineering.training.recipe import Recipe
    from llm_engineering.training.sft import sft

    recipe = Recipe.model_validate(
        {
            "model": str(folder / "model"),
            "engine": "unsloth" if "Unsloth" in program else "transformers",
            "context": numbers["context"],
            "lora": {"rank": RANK, "alpha": 2 * RANK},
            "sft": {
                "max_steps": numbers["steps"], "batch_size": numbers["batch"], "accumulation": 1, "patience": None,
                "evaluate_every": 1000, "log_every": 1000, "packing": False,
            },
        }
    )  # fmt: skip
    sft(recipe, dataset=folder / "dataset", out=folder / program, callbacks=[clock])


def _plain(program: str, folder: Path, numbers: dict[str, int], clock: Any) -> None:  # noqa: ANN401
    """What TRL's documentation shows for QLoRA, with the same numbers."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    from llm_engineering.domain.samples import Split
    from llm_engineering.training.data import read_examples

    cuda = torch.cuda.is_available()
    rows = [
        {
            "prompt": [{"role": "user", "content": example.instruction}],
            "completion": [{"role": "assistant", "content": example.answer + "x" * 200}],
        }
        for example in read_examples(folder / "dataset", Split.TRAIN)
    ]
    trainer = SFTTrainer(
        model=str(folder / "model"),
        args=SFTConfig(
            output_dir=str(folder / "plain"), max_steps=numbers["steps"], per_device_train_batch_size=numbers["batch"],
            max_length=numbers["context"], learning_rate=2e-4, use_cpu=not cuda, bf16=True,
            optim="paged_adamw_8bit" if cuda else "adamw_torch", report_to="none", save_strategy="no", disable_tqdm=True,
            gradient_checkpointing_kwargs={"use_reentrant": False}, model_init_kwargs={"dtype": torch.bfloat16},
        ),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        callbacks=[clock],
    )  # fmt: skip
    trainer.train()


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
        sys.exit(0)
    sys.exit(main())
