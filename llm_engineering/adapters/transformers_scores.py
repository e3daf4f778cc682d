"""Log-probabilities under a local model, for judging it: what it makes of each token of a text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_engineering.adapters.model_folder import encodable
from llm_engineering.adapters.transformers_folder import (
    Quantization,
    load_model,
    load_tokenizer,
    local_model,
    release_memory,
    window_of,
)
from llm_engineering.domain.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LocalScores:
    """A model in a folder (see :func:`~llm_engineering.adapters.transformers_folder.find_local_model`), or a base by its name.

    The weights are loaded by the first score and let go by :meth:`close`.
    """

    def __init__(self, place: str, *, revision: str | None = None, quantization: Quantization = "auto") -> None:
        """``revision`` is that of a base with a name."""
        self._found, self._quantization = local_model(place, revision=revision), quantization
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self._found)
        self.window = window_of(self._found, self.tokenizer)
        """Tokens that the model reads at once."""
        self._model: PreTrainedModel | None = None

    def encode(self, text: str) -> list[int]:
        """Token ids of a plain text after the token that begins every text, or ends every turn where there is none."""
        first = self.tokenizer.bos_token_id
        ids: list[int] = self.tokenizer(encodable(text), add_special_tokens=False, verbose=False)["input_ids"]
        return [self.tokenizer.eos_token_id if first is None else first, *ids]

    def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """``log p(ids[i] | ids[:i])`` of each from the second on, in nats, computed in float32."""
        import torch

        if len(ids) > self.window:
            raise UsageError(
                f"{self._found.place} reads {self.window} tokens at once, and was to read {len(ids)}",
                hint="Lower twin.perplexity.context in the configuration.",
            )
        if self._model is None:
            self._model = load_model(self._found, quantization=self._quantization)
        row = torch.tensor([list(ids)], device=self._model.device)
        with torch.inference_mode():
            spoken = self._model(input_ids=row).logits[0, :-1].float().log_softmax(-1)
            own: list[float] = spoken.gather(1, row[0, 1:, None])[:, 0].tolist()
        return own

    def close(self) -> None:
        """Let go of the weights, and of the memory that they took on a GPU."""
        self._model = None
        release_memory()
