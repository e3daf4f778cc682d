"""OpenVINO: the same weights, several times faster on a CPU, and started without torch.

The conversion (some seconds, needs torch) is kept in a cache folder; a later process needs the tokenizer and OpenVINO alone.
"""

import hashlib
import json
import logging
import shutil
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_engineering.adapters.model_folder import ModelFolder, PlainEncoder, Tokens, loading_errors
from llm_engineering.domain.config import EmbeddingConfig
from llm_engineering.domain.errors import EmbeddingError

_log = logging.getLogger(__name__)

BATCH_TOKENS = 1024
"""Tokens of one batch, padding included: larger ones leave the processor's cache and are slower per text."""


def openvino_version() -> str | None:
    """Version of the installed engine without importing it; ``None`` where it is absent."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


class OpenVinoEncoder:
    """Encodes texts with a plain encoder. Thread-safe: every call takes an inference request of its own."""

    def __init__(
        self, folder: ModelFolder, config: EmbeddingConfig, *, cache: Path | None = None, threads: int | None = None
    ) -> None:
        plain = folder.plain
        if plain is None:
            raise EmbeddingError(
                f"OpenVINO cannot run {folder.path.name}: it is not a plain encoder with mean or cls pooling",
                hint="Set embedding.backend to float32.",
            )
        self.dimensions = plain.dimensions
        self.max_length = plain.max_length
        self.tokenizer = (folder.path / "tokenizer.json").read_text(encoding="utf-8")
        self._pad_id = plain.pad_id
        self._prompts = folder.prompts(config)
        self._batch_size = config.batch_size
        self._tokens = Tokens(self.tokenizer, max_length=self.max_length)
        self._engine = _import_openvino()
        self._core = self._engine.Core()
        self._model = _load_or_convert(folder, plain, self._core, cache)
        # Short calls use every core for one text ("LATENCY"); long ones run a stream per core ("THROUGHPUT"), but where threads
        # are counted: several callers encode at a time there, and take the batches one by one.
        self._threads = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
        self._compiled: dict[str, Any] = {}
        self._requests: list[Any] = []
        self._lock = threading.Lock()
        # Compiled models that outlive the interpreter abort the process: their threads are still running then.
        weakref.finalize(self, _release, self._requests, self._compiled)

    def encode(self, texts: Sequence[str], *, query: bool) -> NDArray[np.float32]:
        """Unit vectors, one row per text, in order."""
        prompt = self._prompts[0 if query else 1]
        ids = self._tokens.cut([prompt + text for text in texts])
        vectors = np.empty((len(ids), self.dimensions), np.float32)
        batches = _batches([len(sequence) for sequence in ids], most=self._batch_size)
        try:
            if len(batches) == 1 or self._threads:
                for rows in batches:
                    self._encode_one(ids, rows, vectors)
            elif batches:
                self._encode_many(ids, batches, vectors)
        except RuntimeError as error:
            raise EmbeddingError(f"OpenVINO failed on a batch of texts: {error}") from error
        return vectors

    def _encode_one(self, ids: list[list[int]], rows: list[int], vectors: NDArray[np.float32]) -> None:
        with self._lock:
            request = self._requests.pop() if self._requests else self._compile("LATENCY").create_infer_request()
        vectors[rows] = request.infer(_padded([ids[row] for row in rows], self._pad_id))[0]
        with self._lock:
            self._requests.append(request)

    def _encode_many(self, ids: list[list[int]], batches: list[list[int]], vectors: NDArray[np.float32]) -> None:
        def keep(request: Any, rows: list[int]) -> None:  # noqa: ANN401  # openvino ships no types
            vectors[rows] = request.get_output_tensor(0).data

        with self._lock:
            compiled = self._compile("THROUGHPUT")
        jobs = self._engine.AsyncInferQueue(compiled)
        jobs.set_callback(keep)
        for rows in batches:
            jobs.start_async(_padded([ids[row] for row in rows], self._pad_id), rows)
        jobs.wait_all()

    def _compile(self, hint: str) -> Any:  # noqa: ANN401  # openvino ships no types
        if hint not in self._compiled:
            numbers = {"PERFORMANCE_HINT": hint, **self._threads}
            self._compiled[hint] = self._core.compile_model(self._model, "CPU", numbers)
        return self._compiled[hint]


def _release(requests: list[Any], compiled: dict[str, Any]) -> None:
    requests.clear()
    compiled.clear()


def _batches(lengths: list[int], *, most: int) -> list[list[int]]:
    """Rows by batch, longest first: neighbours have alike lengths, so little is padded, and no core waits for a long
    batch at the end. A batch has at most ``most`` rows and about ``BATCH_TOKENS`` tokens."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        batch = batches[-1] if batches else []
        if batch and len(batch) < most and (len(batch) + 1) * lengths[batch[0]] <= BATCH_TOKENS:
            batch.append(row)
        else:
            batches.append([row])
    return batches


def _padded(ids: list[list[int]], pad_id: int) -> dict[str, NDArray[np.int64]]:
    longest = max(map(len, ids))
    tokens = np.full((len(ids), longest), pad_id, np.int64)
    mask = np.zeros((len(ids), longest), np.int64)
    for row, sequence in enumerate(ids):
        tokens[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return {"input_ids": tokens, "attention_mask": mask}


def _import_openvino() -> Any:  # noqa: ANN401  # openvino ships no types
    if openvino_version() is None:
        raise EmbeddingError(
            "OpenVINO is not installed", hint="pip install openvino, or set embedding.backend: float32"
        )
    if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
        # Importing openvino reports to its makers unless its telemetry package cannot be imported.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # the documented way to block an import
        try:
            import openvino
        finally:
            del sys.modules["openvino_telemetry"]
    import openvino

    return openvino


def _load_or_convert(folder: ModelFolder, plain: PlainEncoder, core: Any, cache: Path | None) -> Any:  # noqa: ANN401
    entry = None if cache is None else cache / f"openvino-{_conversion_key(folder, plain)}"
    if entry is not None and entry.is_dir():
        model = _load(entry, core)
        if model is not None:
            return model
        _log.warning("The converted model in %s is damaged; converting again", entry)
    model = _convert(folder, plain)
    if entry is not None:
        _keep(model, entry)
    return model


def _conversion_key(folder: ModelFolder, plain: PlainEncoder) -> str:
    identity = json.dumps([folder.network_digests, plain.pooling, openvino_version(), 1], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _load(entry: Path, core: Any) -> Any:  # noqa: ANN401
    """The converted model, or ``None`` if its files are not what was written."""
    try:
        expected = json.loads((entry / "sha256.json").read_text(encoding="utf-8"))
        for name in ("model.xml", "model.bin"):
            with (entry / name).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected[name]:
                    return None
        return core.read_model(entry / "model.xml")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        _log.info("Reading %s: %s", entry, error)
        return None


def _keep(model: Any, entry: Path) -> None:  # noqa: ANN401
    """Write the conversion beside the cache and move it there in one step; without a writable cache go on without one."""
    import openvino

    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    except OSError as error:
        _log.warning("The converted model is not kept, the next start converts again: %s", error)
        return
    try:
        openvino.save_model(model, scratch / "model.xml", compress_to_fp16=False)
        digests = {}
        for name in ("model.xml", "model.bin"):
            with (scratch / name).open("rb") as stream:
                digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
        (scratch / "sha256.json").write_text(json.dumps(digests), encoding="utf-8")
        if entry.exists():
            entry.rename(scratch / "replaced")
        scratch.rename(entry)
        shutil.rmtree(entry / "replaced", ignore_errors=True)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        _log.warning("The converted model is not kept, the next start converts again: %s", error)


def _convert(folder: ModelFolder, plain: PlainEncoder) -> Any:  # noqa: ANN401
    import openvino
    import torch
    from transformers import AutoModel

    class Sentence(torch.nn.Module):
        """Tokens to unit vector: encoder, pooling, normalisation."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder.path, dtype=torch.float32, local_files_only=True).eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            if plain.pooling == "cls":
                return torch.nn.functional.normalize(states[:, 0], dim=-1)
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=-1)

    example = {
        "input_ids": torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
    }
    try:
        with quiet_transformers(), warnings.catch_warnings(), torch.no_grad():
            # The tracer warns of constants; the result is compared with the original before it is ever chosen.
            warnings.simplefilter("ignore")
            return openvino.convert_model(Sentence(), example_input=example)
    except loading_errors() as error:
        raise EmbeddingError(
            f"OpenVINO could not convert {folder.path.name}: {error}", hint="Set embedding.backend to float32."
        ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar and no notices of the transformers library while a model is loaded."""
    from transformers.utils import logging as notices

    level, bars = notices.get_verbosity(), notices.is_progress_bar_enabled()
    notices.set_verbosity_error()
    notices.disable_progress_bar()
    try:
        yield
    finally:
        notices.set_verbosity(level)
        if bars:
            notices.enable_progress_bar()
