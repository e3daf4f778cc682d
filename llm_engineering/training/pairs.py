"""TRL's DPO trainer over token ids of our own."""

from typing import Any

from datasets import Dataset
from trl import DPOTrainer


class PairTrainer(DPOTrainer):
    """Takes pairs as ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, as they are.

    TRL would tokenize text with special tokens, and so write the begin-of-text token twice where template and tokenizer both
    add it; and it joins tokens where prompt and answer meet. Either way DPO would read other tokens than SFT and serving.
    """

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:  # noqa: ANN401 - TRL's own arguments
        return dataset
