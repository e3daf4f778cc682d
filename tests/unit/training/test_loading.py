"""The model that a run gets: in four bits, with an adapter on every linear layer, and right gradients on any CPU."""

import json
from pathlib import Path

import pytest
import torch

from llm_engineering.adapters.transformers_folder import LocalModel, find_local_model
from llm_engineering.domain.errors import MissingExtra, UsageError
from llm_engineering.training.hardware import Hardware, check_fit, detect, outline
from llm_engineering.training.loading import chosen_engine, load, mend_cpu_quantization
from llm_engineering.training.recipe import LoraRecipe
from tests.doubles.training import small_recipe

GPU = Hardware(device="cuda", name="some GPU", count=1, free_bytes=24_000_000_000, bf16=True)
CPU = Hardware(device="cpu", name="some CPU", count=2, free_bytes=8_000_000_000, bf16=False)


@pytest.fixture
def base(trained) -> str:
    return str(trained[0] / "base")


def test_every_linear_layer_is_in_four_bits_with_an_adapter_but_the_head(base):
    from bitsandbytes.nn import Linear4bit
    from peft.tuners.lora import LoraLayer

    model, _ = load(base, small_recipe(), detect())
    adapted = [module.get_base_layer() for module in model.modules() if isinstance(module, LoraLayer)]
    assert len(adapted) == 2 * 7
    for layer in adapted:
        assert isinstance(layer, Linear4bit)
        assert layer.weight.quant_state.quant_type == "nf4" and layer.weight.quant_state.nested
    assert not isinstance(model.get_output_embeddings(), Linear4bit)


def test_without_quantization_the_base_is_whole(base):
    model, _ = load(base, small_recipe(quantization="none"), detect())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def gradients(model, ids):
    model.train().zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def test_gradients_are_the_same_after_an_evaluation(base):
    """bitsandbytes' AVX512-BF16 path repacks the weights in the first evaluation and is wrong from then on."""
    from bitsandbytes.nn import Linear4bit

    model, tokenizer = load(base, small_recipe(), detect())
    assert not any(m.support_avx512bf16_for_cpu for m in model.modules() if isinstance(m, Linear4bit))
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    ids = torch.tensor([tokenizer("My chunk 1 is green, and it stays green.")["input_ids"]])
    before = gradients(model, ids)
    with torch.no_grad():
        model.eval()(input_ids=ids)
    torch.testing.assert_close(gradients(model, ids), before)


def test_mending_leaves_other_layers_alone():
    mend_cpu_quantization(torch.nn.Linear(2, 2))


def test_four_bits_change_the_loss_little(base):
    ids = None
    losses = []
    for quantization in ("none", "nf4"):
        model, tokenizer = load(base, small_recipe(quantization=quantization), detect())
        ids = torch.tensor([tokenizer("My chunk 1 is green, and it stays green.")["input_ids"]])
        with torch.no_grad():
            losses.append(model.eval()(input_ids=ids, labels=ids).loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_auto_takes_unsloth_only_where_it_can_run():
    assert chosen_engine(small_recipe(), GPU) == "transformers"  # it is not installed here
    assert chosen_engine(small_recipe(), CPU) == "transformers"
    with pytest.raises(MissingExtra, match=r"llm-engineering\[gpu\]"):
        chosen_engine(small_recipe(engine="unsloth"), GPU)


def test_a_base_at_a_revision_is_not_for_unsloth_which_would_take_another_one(monkeypatch):
    monkeypatch.setattr("llm_engineering.training.loading.is_installed", lambda name: True)
    assert chosen_engine(small_recipe(), GPU) == "unsloth"
    assert chosen_engine(small_recipe(revision="abc"), GPU) == "transformers"
    with pytest.raises(UsageError, match="cannot hold to a revision"):
        chosen_engine(small_recipe(engine="unsloth", revision="abc"), GPU)


def test_an_adapter_tells_the_revision_of_its_base_to_who_loads_it(base, tmp_path: Path):
    model, _ = load(base, small_recipe(quantization="none", revision="abc"), detect())
    model.save_pretrained(tmp_path)
    assert find_local_model(tmp_path) == LocalModel(base, tmp_path, "abc")


def test_bf16_that_a_card_only_emulates_is_none(monkeypatch):
    """So that a Turing card computes in float32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (15_000_000_000, 16_000_000_000))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not detect().bf16


def eight_billion(folder: Path) -> str:
    shape = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(shape))
    return str(folder)


def test_eight_billion_parameters_fit_a_24_gb_card_in_four_bits(tmp_path: Path):
    base = outline(eight_billion(tmp_path))
    check_fit("some/8B", base, small_recipe(precision="auto", lora__rank=32), GPU)


def test_a_base_that_does_not_fit_is_refused_before_it_is_loaded(tmp_path: Path):
    with pytest.raises(
        UsageError, match=r"does not fit: 8\.0B parameters need at least 32\.\d GB, some CPU has 8\.0 GB free"
    ):
        check_fit("some/8B", outline(eight_billion(tmp_path)), small_recipe(quantization="none"), CPU)


def test_gpus_that_share_a_base_need_room_for_their_share(tmp_path: Path, monkeypatch):
    base, recipe = outline(eight_billion(tmp_path)), small_recipe(quantization="none", precision="bf16")
    small = GPU.model_copy(update={"free_bytes": 5_000_000_000})
    with pytest.raises(UsageError, match="does not fit"):
        check_fit("some/8B", base, recipe, small)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_fit("some/8B", base, recipe, small)


def test_a_base_in_four_bits_is_not_shared(base, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match=r"FSDP cannot share a base in 4 bits.*ddp\.yaml"):
        load(base, small_recipe(), GPU)


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=f"The model {tmp_path} cannot be loaded"):
        load(str(tmp_path), small_recipe(), detect())


def test_an_adapter_of_other_shapes_is_refused(base, with_sft: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    weights = with_sft / "sft" / "adapter" / "adapter_model.safetensors"
    save_file(
        {name: torch.zeros(weight.shape[0] + 1, weight.shape[1] + 1) for name, weight in load_file(weights).items()},
        weights,
    )
    with pytest.raises(UsageError, match="belongs to another base"):
        load(base, small_recipe(), detect(), adapter=weights.parent)


@pytest.mark.parametrize("lost", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_broken_adapter_is_refused(base, with_sft: Path, lost: str):
    adapter = with_sft / "sft" / "adapter"
    (adapter / lost).write_bytes(b"\x00")
    with pytest.raises(UsageError, match="There is no whole adapter"):
        load(base, small_recipe(), detect(), adapter=adapter)


def test_chosen_layers_alone_carry_the_adapter(base):
    recipe = small_recipe(lora=LoraRecipe(rank=2, targets=("q_proj", "v_proj")).model_dump())
    model, _ = load(base, recipe, detect())
    trained = {name.split(".")[-4] for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {"q_proj", "v_proj"}


@pytest.fixture
def unsloth(monkeypatch):
    """A stand-in for the package, which needs a CUDA GPU to be imported: it loads what it is given, or raises it."""
    import sys
    from types import ModuleType, SimpleNamespace

    loads = SimpleNamespace(gives=RuntimeError("Unsloth: No config file found\n(and so on)"), called=[])

    def from_pretrained(model_name, **_):
        loads.called.append(model_name)
        raise loads.gives

    module = ModuleType("unsloth")
    module.FastLanguageModel = SimpleNamespace(from_pretrained=from_pretrained)
    monkeypatch.setitem(sys.modules, "unsloth", module)
    monkeypatch.setattr("llm_engineering.training.loading.is_installed", lambda name: True)
    return loads


def test_what_unsloth_cannot_load_is_one_line(base, unsloth):
    with pytest.raises(UsageError, match=r"cannot be loaded: Unsloth: No config file found\. Give"):
        load(base, small_recipe(), GPU)


def test_memory_that_ran_out_in_unsloth_is_told_as_such(base, unsloth):
    unsloth.gives = torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(torch.OutOfMemoryError):
        load(base, small_recipe(), GPU)


def test_unsloth_is_given_no_base_that_does_not_fit_and_no_adapter_of_another_base(
    base, with_sft, unsloth, tmp_path: Path
):
    from safetensors.torch import load_file, save_file

    with pytest.raises(UsageError, match="does not fit"):
        load(base, small_recipe(), GPU.model_copy(update={"free_bytes": 1000}))
    weights = with_sft / "sft" / "adapter" / "adapter_model.safetensors"
    save_file({name: weight[:, :-1].contiguous() for name, weight in load_file(weights).items()}, weights)
    with pytest.raises(UsageError, match="belongs to another base"):
        load(base, small_recipe(), GPU, adapter=weights.parent)
    assert not unsloth.called
