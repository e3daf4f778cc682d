"""Chooses the numeric backend of an embedding model: the fastest that agrees with float32, measured once and remembered."""

import hashlib
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llm_engineering.domain.errors import EmbeddingError

_log = logging.getLogger(__name__)

AGREEMENT = 0.999
"""Smallest cosine to float32 that a backend may have on any probe text; the nearest neighbours must agree as well."""

HANDICAP = {"float32": 1.25, "bf16": 1.25}
"""Torch has to be faster by this factor: it takes several times the memory and the start-up of OpenVINO."""

ROUNDS = 3

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """One numeric backend of one model; thread-safe."""

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens that the model reads, special ones included."""
        ...

    @property
    def tokenizer(self) -> str:
        """The content of the model's tokenizer.json."""
        ...

    def encode(self, texts: Sequence[str], *, query: bool) -> Vectors:
        """One row per text, in order."""
        ...


Openers = Mapping[str, Callable[[], Encoder]]
"""What opens each backend that could run here, by name; ``float32`` is always among them and is the measure."""

_SENTENCES = (
    "How do I keep a search index in step with its database?",
    "The watermark moves last: a process killed at any moment loses nothing.",
    "In the evening the fishermen mended their nets and spoke of the storm that had passed.",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)",
    "Bäume verlieren im Herbst ihre Blätter, und die Tage werden kürzer.",
    "Interest rates rose by 0.25 % in March 2021; lenders reacted within weeks.",
    "La receta pide dos huevos, un vaso de leche y una pizca de sal.",
    "Transformers attend to every token of the sequence, which costs quadratic time.",
    "She said: “No source, no claim.” 🙂",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
)
PROBE = (
    *_SENTENCES,
    *(" ".join(_SENTENCES[first : first + 3]) for first in range(8)),
    *(" ".join((_SENTENCES * 2)[first : first + 8]) for first in range(6)),
)
"""Texts of one to eight sentences on which the backends are compared and timed."""


def fastest(openers: Openers, *, model: str, cache: Path | None) -> Encoder:
    """The remembered choice for this model on this machine, or else a new measurement.

    ``model`` identifies the model and its configuration. A backend that fails to start or disagrees is left out, with a
    word in the log. Raises :class:`EmbeddingError` only if float32 itself does not run.
    """
    memory = None if cache is None else cache / f"backend-{_circumstances(model)}.json"
    known = _recall(memory)
    if known is not None and known in openers:
        try:
            return openers[known]()
        except EmbeddingError as error:
            _log.warning("The remembered backend %s does not start, so it is chosen anew: %s", known, error)
    name, encoder, measured = _measure(openers)
    _log.info("Embedding backend %s: %s", name, measured)
    _remember(memory, {"backend": name, "measured": measured})
    return encoder


def unit(vectors: Vectors) -> Vectors:
    """The rows with norm 1. Raises :class:`EmbeddingError` for a row without a direction."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise EmbeddingError(
            "The embedding model returned a vector without a direction", hint="Set embedding.backend to float32."
        )
    return np.asarray(vectors / norms, np.float32)


def _measure(openers: Openers) -> tuple[str, Encoder, dict[str, dict[str, float]]]:
    encoders = {"float32": openers["float32"]()}
    reference = unit(encoders["float32"].encode(PROBE, query=False))
    agreement = {"float32": 1.0}
    for name in [name for name in openers if name != "float32"]:
        try:
            encoder = openers[name]()
            vectors = unit(encoder.encode(PROBE, query=False))
        except EmbeddingError as error:
            _log.info("The embedding backend %s is left out: %s", name, error)
            continue
        agreement[name] = float((vectors * reference).sum(axis=1).min())
        same_neighbours = (_neighbours(vectors) == _neighbours(reference)).mean() >= 0.9
        if agreement[name] >= AGREEMENT and same_neighbours:
            encoders[name] = encoder
        else:
            _log.warning("The embedding backend %s disagrees with float32 (cosine %.4f)", name, agreement[name])
    seconds = _seconds(encoders)
    best = min(encoders, key=lambda name: seconds[name] * HANDICAP.get(name, 1.0))
    measured = {
        name: {"texts_per_second": round(len(PROBE) / seconds[name], 1), "agreement": round(agreement[name], 6)}
        for name in encoders
    }
    return best, encoders[best], measured


def _seconds(encoders: Mapping[str, Encoder]) -> dict[str, float]:
    """Best of some rounds in turn, so that a busy moment of the machine does not decide."""
    seconds = dict.fromkeys(encoders, float("inf"))
    for _ in range(ROUNDS):
        for name, encoder in encoders.items():
            start = time.perf_counter()
            encoder.encode(PROBE, query=False)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def _neighbours(vectors: Vectors) -> NDArray[np.int64]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    return np.asarray(similarity.argmax(axis=1), np.int64)


def _circumstances(model: str) -> str:
    """Hash of all that the choice depends on: model, processor, libraries."""
    identity = [model, platform.machine(), _processor(), os.cpu_count()]
    identity += [_version(name) for name in ("torch", "openvino", "sentence-transformers", "transformers", "numpy")]
    identity += [Path("/dev/nvidiactl").exists(), os.environ.get("CUDA_VISIBLE_DEVICES")]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags"))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _recall(memory: Path | None) -> str | None:
    if memory is None or not memory.is_file():
        return None
    try:
        name = json.loads(memory.read_text(encoding="utf-8"))["backend"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read, so the backend is chosen anew: %s", memory, error)
        return None
    return name if isinstance(name, str) else None


def _remember(memory: Path | None, choice: dict[str, object]) -> None:
    if memory is None:
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=memory.parent, delete=False) as file:
            json.dump(choice, file, indent=1)
        Path(file.name).replace(memory)
    except OSError as error:
        _log.warning("The choice of the embedding backend is not kept, the next start measures again: %s", error)
