"""Packing fills a context with several samples, and none of them can see another."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def packed(trained, dataset: Path, tmp_path_factory):
    """The trainer's own first batch of packed rows, and the full-precision base it is for."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from llm_engineering.domain.samples import Split
    from llm_engineering.training.arguments import shared_arguments
    from llm_engineering.training.data import read_examples
    from llm_engineering.training.hardware import detect
    from llm_engineering.training.render import fitting_examples
    from tests.doubles.training import small_recipe

    base = trained[0] / "base"
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    rows = fitting_examples(tokenizer, read_examples(dataset, Split.TRAIN), context=256).rows
    recipe = small_recipe()
    arguments = shared_arguments(recipe, recipe.sft, detect(), work=tmp_path_factory.mktemp("packing"))
    data = Dataset.from_list([row._asdict() for row in rows])
    trainer = SFTTrainer(
        model=model, args=SFTConfig(**arguments, packing=True, eval_packing=False), train_dataset=data, eval_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip
    return trainer, next(iter(trainer.get_train_dataloader())), rows


def starts(batch):
    return (batch["position_ids"][0] == 0).nonzero().flatten().tolist()


def test_a_batch_holds_several_samples_in_one_row(packed):
    trainer, batch, rows = packed
    assert len(starts(batch)) > trainer.args.per_device_train_batch_size
    assert len(trainer.train_dataset) < len(rows)


def test_no_sample_attends_to_another(packed):
    """The loss of one sample has no gradient on the embeddings of the others."""
    trainer, batch, _ = packed
    model, places = trainer.model.eval(), starts(batch)
    embedded = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    logits = model.model(inputs_embeds=embedded, position_ids=batch["position_ids"], use_cache=False).last_hidden_state
    logits[0, places[1] : places[2]].sum().backward()
    touched = (embedded.grad[0].abs().sum(-1) > 0).nonzero().flatten().tolist()
    assert touched == list(range(places[1], places[2]))


def test_packed_samples_are_computed_as_they_are_alone(packed):
    trainer, batch, _ = packed
    model, (begin, end) = trainer.model.eval(), starts(batch)[1:3]
    with torch.no_grad():
        alone = model.model(input_ids=batch["input_ids"][:, begin:end]).last_hidden_state
        together = model.model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)
    torch.testing.assert_close(together.last_hidden_state[:, begin:end], alone, atol=1e-5, rtol=1e-4)


def test_packing_loses_no_sample_and_learns_no_prompt(packed):
    trainer, _, rows = packed
    learnt = sorted(label for row in trainer.train_dataset for label in row["labels"] if label != -100)
    assert learnt == sorted(label for row in rows for label in row.labels if label != -100)
