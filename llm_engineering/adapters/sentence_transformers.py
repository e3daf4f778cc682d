"""The dense embedder: a sentence-transformers model in the numeric backend that is fastest and still agrees.

``float32`` and ``bf16`` run in torch, ``openvino`` in OpenVINO. ``auto`` measures the installed ones against float32
once per model, machine and library versions, and remembers the choice in the cache folder.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from llm_engineering.adapters.backend_choice import Encoder, Vectors, fastest, unit
from llm_engineering.adapters.model_folder import ModelFolder, Tokens, encodable, find_model, loading_errors
from llm_engineering.adapters.openvino import OpenVinoEncoder, quiet_transformers
from llm_engineering.domain.config import EmbeddingConfig
from llm_engineering.domain.errors import EmbeddingError
from llm_engineering.domain.ports import Embedder

_log = logging.getLogger(__name__)


def open_embedder(
    model: str, config: EmbeddingConfig, *, cache: Path | None = None, threads: int | None = None
) -> Embedder:
    """The embedder of that name or folder, in the configured backend.

    ``cache`` keeps the measured choice and the conversion for OpenVINO, so that later processes start without torch.
    ``threads``: how many OpenVINO may use; all of the processor's without.
    Raises :class:`EmbeddingError` if the model is absent, damaged or cannot run.
    """
    folder = find_model(model)
    openers = _openers(folder, config, cache, threads)
    if config.backend == "auto":
        identity = f"{folder.fingerprint(config)} {config.digest()}"
        encoder = fastest(openers, model=identity, cache=cache)
    elif config.backend in openers:
        encoder = openers[config.backend]()
    else:
        _log.warning("%s needs its own library, so it runs in torch instead of OpenVINO", folder.path.name)
        encoder = openers["float32"]()
    return SentenceEmbedder(folder, config, encoder)


class SentenceEmbedder:
    """A model folder and the encoder that runs it, as the port wants them."""

    def __init__(self, folder: ModelFolder, config: EmbeddingConfig, encoder: Encoder) -> None:
        self._encoder = encoder
        self.fingerprint = folder.fingerprint(config)
        self.dimensions = encoder.dimensions
        self._tokens = Tokens(encoder.tokenizer, max_length=encoder.max_length)
        _, passage_prompt = folder.prompts(config)
        self.window = encoder.max_length - self._tokens.special - self._tokens.count(passage_prompt)
        if self.window < 1:
            raise EmbeddingError(
                f"The passage prompt leaves no room in the {encoder.max_length} tokens of {folder.path.name}",
                hint="Shorten embedding.passage_prompt.",
            )

    def count_tokens(self, text: str) -> int:
        """Length in the model's own tokens, special ones not counted."""
        return self._tokens.count(text)

    def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit vector per text, in order."""
        return unit(self._encoder.encode(texts, query=False)).tolist() if texts else []

    def embed_query(self, text: str) -> list[float]:
        """The unit vector of a query."""
        return self.embed_queries([text])[0]

    def embed_queries(self, texts: Sequence[str]) -> list[list[float]]:
        """The unit vectors of several queries, in order."""
        return unit(self._encoder.encode(texts, query=True)).tolist() if texts else []


class TorchEncoder:
    """The model in its own library, in float32 or bfloat16, on the GPU where there is one."""

    def __init__(self, folder: ModelFolder, config: EmbeddingConfig, *, dtype: str = "float32") -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise EmbeddingError(
                f"sentence-transformers cannot be imported: {error}",
                hint="Reinstall it: pip install sentence-transformers",
            ) from error
        try:
            with quiet_transformers():
                self._model = SentenceTransformer(
                    str(folder.path), local_files_only=True, model_kwargs={"dtype": dtype}, trust_remote_code=False
                )
        except loading_errors() as error:
            raise EmbeddingError(
                f"The embedding model in {folder.path} cannot be loaded: {error}",
                hint="Fetch or save the model again, or choose another EMBEDDING_MODEL.",
            ) from error
        self._prompts = folder.prompts(config)
        self._batch_size = config.batch_size
        self._lock = threading.Lock()  # the library's tokenizer keeps padding and truncation as state

    @property
    def max_length(self) -> int:
        """Tokens that the model reads, special ones included."""
        return int(self._model.max_seq_length or 8192)  # models without a limit (static embeddings) get a generous one

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self._model.get_embedding_dimension() or 0)

    @property
    def tokenizer(self) -> str:
        """The tokenizer as JSON of the tokenizers library."""
        tokenizer = self._model.tokenizer
        tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(tokenizer, "to_str"):
            raise EmbeddingError("The model has no fast tokenizer", hint="Choose a model with a tokenizer.json.")
        return str(tokenizer.to_str())

    def encode(self, texts: Sequence[str], *, query: bool) -> Vectors:
        """One row per text, in order; the library batches by length itself."""
        encode = self._model.encode_query if query else self._model.encode_document
        prompt = self._prompts[0 if query else 1]
        try:
            with self._lock:
                vectors = encode(
                    [encodable(text) for text in texts],
                    prompt=prompt,
                    batch_size=self._batch_size,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
        except (RuntimeError, ValueError) as error:
            raise EmbeddingError(
                f"The embedding model failed on a batch of texts: {error}",
                hint="If memory ran out, lower embedding.batch_size.",
            ) from error
        return np.asarray(vectors, np.float32)


def _openers(
    folder: ModelFolder, config: EmbeddingConfig, cache: Path | None, threads: int | None
) -> dict[str, Callable[[], Encoder]]:
    bf16 = _bf16_in_hardware if config.backend == "auto" else _bf16
    openers: dict[str, Callable[[], Encoder]] = {
        "float32": lambda: TorchEncoder(folder, config),
        "bf16": lambda: bf16(folder, config),
    }
    if folder.plain is not None:
        openers["openvino"] = lambda: OpenVinoEncoder(folder, config, cache=cache, threads=threads)
    return openers


def _bf16(folder: ModelFolder, config: EmbeddingConfig) -> Encoder:
    return TorchEncoder(folder, config, dtype="bfloat16")


def _bf16_in_hardware(folder: ModelFolder, config: EmbeddingConfig) -> Encoder:
    import torch

    # Emulated bfloat16 is many times slower than float32: not worth a measurement.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if not torch.cuda.is_available() and not any(
        capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")
    ):
        raise EmbeddingError("This processor has no bfloat16")
    return _bf16(folder, config)
