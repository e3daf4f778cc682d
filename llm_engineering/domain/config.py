"""The shapes of the YAML files in ``configs/``: the numbers of a run, never an address or a secret.

An unknown key or a wrong type is refused with the path of the offending entry.
"""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_engineering.domain.entities import Fusion, Kind


class Configuration(BaseModel):
    """Base of all configuration: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def digest(self) -> str:
        """Short stable hash of every value."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]


class SourceConfig(Configuration):
    """One source. ``type`` is told from the address when it is not given."""

    at: str
    """URL or path."""
    type: (
        Literal[
            "article", "feed", "sitemap", "site", "repository", "folder", "medium", "substack", "linkedin", "handbook"
        ]
        | None
    ) = None
    author: str | None = None
    """Overrides the author of the run."""
    kind: Kind | None = None
    platform: str | None = None
    browser: bool = False
    """Render pages in Chromium (extra ``browser``)."""
    include: tuple[str, ...] = ()
    """Glob patterns on URL path or file path; empty keeps all."""
    exclude: tuple[str, ...] = ()


class CrawlConfig(Configuration):
    """Limits and manners of a crawl. Sizes in bytes, times in seconds."""

    user_agent: str = Field(default="llm-twin/0.1", pattern=r"^[!-~]([ -~]*[!-~])?$")
    """What servers are told; a header takes printable ASCII only."""
    max_bytes: int = Field(default=10_000_000, ge=1)
    timeout: float = Field(default=20.0, gt=0)
    max_redirects: int = Field(default=5, ge=0)
    retries: int = Field(default=3, ge=0)
    delay: float = Field(default=0.5, ge=0)
    """Pause between two requests to one host, where robots.txt asks for no longer one."""
    max_delay: float = Field(default=60.0, ge=0)
    """Longest pause that robots.txt or ``Retry-After`` may impose; a longer one is refused and reported."""
    max_pages: int = Field(default=500, ge=1)
    """Pages of one site or sitemap."""
    max_file_bytes: int = Field(default=1_000_000, ge=1)
    """Files of repositories and folders; larger ones are refused with that reason."""
    hosts_in_parallel: int = Field(default=4, ge=1)
    min_words: int = Field(default=5, ge=0)
    """A page whose main text is shorter is refused as empty."""


class ChunkSize(Configuration):
    """Token counts in the embedder's own tokens; ``size`` is cut to the embedder's window."""

    name: str = "default"
    size: int = Field(default=128, ge=16)
    overlap: int = Field(default=0, ge=0)
    window: int = Field(default=700, ge=16)
    """Tokens of the text around a chunk that a model is shown."""


ChunkSizes = Annotated[tuple[ChunkSize, ...], Field(min_length=1)]
"""At least one: without any, a document would have no chunk and never be found."""


class ChunkConfig(Configuration):
    """Chunk sizes; ``by_kind`` overrides ``sizes`` for a kind of document. Several sizes stand side by side."""

    sizes: ChunkSizes = (ChunkSize(),)
    by_kind: dict[Kind, ChunkSizes] = Field(default_factory=dict)


class CleanConfig(Configuration):
    """What counts as boilerplate around the author's text."""

    boilerplate: bool = True
    """Drop share buttons, subscribe boxes, cookie text and a trailing language tag from the reading view."""
    patterns: tuple[str, ...] = ()
    """Further regular expressions; a line or paragraph that matches as a whole is dropped."""


class EmbeddingConfig(Configuration):
    """How texts become dense vectors. The model's name is a setting (``EMBEDDING_MODEL``), not a number of a run."""

    backend: Literal["auto", "float32", "bf16", "openvino"] = "auto"
    batch_size: int = Field(default=16, ge=1)
    query_prompt: str = ""
    passage_prompt: str = ""


class SparseConfig(Configuration):
    """BM25: Robertson and Zaragoza (2009), k1 and b as usual."""

    language: str = "english"
    """A Snowball stemmer's name, or ``none``."""
    k1: float = Field(default=1.2, ge=0)
    b: float = Field(default=0.75, ge=0, le=1)
    average_length: float = Field(default=50.0, gt=0)
    """Assumed average number of terms of a chunk; part of the index's recipe so that scores stay comparable."""


class SyncConfig(Configuration):
    """How the index follows the warehouse."""

    batch_documents: int = Field(default=64, ge=1)
    batch_chunks: int = Field(default=512, ge=1)
    """Chunks embedded and published at a time: bounds memory."""


class SearchConfig(Configuration):
    """Defaults of retrieval."""

    k: int = Field(default=5, ge=1)
    fusion: Fusion = Fusion.WEIGHTED
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of the dense ranking in weighted fusion."""
    long_query: int | None = Field(default=12, ge=1)
    """A query of more distinct terms says by its words what it wants: ``alpha`` shrinks by ``long_query`` / terms. ``None``:
    the same ``alpha`` for all."""


class Sampling(Configuration):
    """How a chat model picks its words; ``None`` leaves it to the server."""

    temperature: float | None = Field(default=0.2, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    max_tokens: int = Field(default=800, ge=1)
    stop: tuple[str, ...] = ()
    seed: int | None = None


class ChatConfig(Configuration):
    """Manners towards a chat endpoint. Times in seconds."""

    timeout: float = Field(default=60.0, gt=0)
    """For one whole reply, and for each wait between two pieces of a stream."""
    connect_timeout: float = Field(default=5.0, gt=0)
    retries: int = Field(default=3, ge=0)
    concurrency: int = Field(default=64, ge=1)
    """Requests under way at once; more wait their turn."""
    quantization: Literal["auto", "nf4", "none"] = "auto"
    """Of a local model. ``auto``: in 4 bits where 16 would take more than half of a GPU's free memory."""


class AnswerConfig(Configuration):
    """From a question to an answer."""

    understand: Literal["model", "rules"] = "model"
    """Who reads the question: the chat model where there is one (a call more per question), or rules alone."""
    k: int = Field(default=6, ge=1)
    """Passages that may be shown to the model."""
    candidates: int = Field(default=30, ge=1)
    """Chunks that retrieval hands on to reranking."""
    per_document: int = Field(default=3, ge=1)
    """Chunks of one document among the candidates."""
    rewordings: int = Field(default=0, ge=0)
    """Query expansion: further wordings of the question that are searched for too (needs a model)."""
    hyde: bool = False
    """Search also for a hypothetical answer (Gao et al., 2022; needs a model)."""
    recency_half_life_days: float | None = Field(default=None, gt=0)
    """A hit of that age counts half as much as one of today; off by default."""
    rerank_seconds: float = Field(default=2.0, gt=0)
    """Time box of the reranker, after which the fused order stands."""
    diversity: float = Field(default=0.3, ge=0, le=1)
    """Weight of novelty in maximal marginal relevance (Carbonell and Goldstein, 1998), where there is no reranker."""
    context_tokens: int = Field(default=3000, ge=64)
    """Budget of all passages in the model's own tokens."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Calibrated confidence under which the twin says that it does not know."""
    style_examples: int = Field(default=3, ge=0)
    sampling: Sampling = Sampling()
    search: SearchConfig = SearchConfig()
    chat: ChatConfig = ChatConfig()


class ServiceConfig(Configuration):
    """Limits of the service. Times in seconds, sizes in bytes."""

    in_flight: int = Field(default=64, ge=1)
    """Questions being answered at once; more wait their turn."""
    queue: int = Field(default=64, ge=0)
    """Questions that may wait; one more is told to come back later."""
    deadline: float = Field(default=90.0, gt=0)
    """For one whole answer, the wait for its turn included."""
    retry_after: int = Field(default=2, ge=1)
    """What a refused caller is told to wait, where nothing says better."""
    max_body_bytes: int = Field(default=256_000, ge=1)
    per_minute: float = Field(default=600.0, gt=0)
    """Requests that one API key may make a minute, in the long run."""
    burst: int = Field(default=100, ge=1)
    """Requests that one API key may make at a stroke."""
    heartbeat: float = Field(default=10.0, gt=0)
    """A silent stream says that it is alive after so long."""
    remembered: int = Field(default=2000, ge=1)
    """Latest answers that feedback may still judge."""
    batch_size: int = Field(default=16, ge=1)
    """Queries that are embedded together at most."""
    batch_delay: float = Field(default=0.003, ge=0)
    """What a query waits at most for others to be embedded with."""
    check_seconds: float = Field(default=2.0, gt=0)
    """After which a store or model that does not answer counts as not ready."""
    shutdown: float = Field(default=30.0, gt=0)
    """What requests under way are given to finish when the service stops."""


class FeatureConfig(Configuration):
    """``configs/feature.yaml``: the whole feature pipeline."""

    author: str | None = None
    sources: tuple[SourceConfig, ...] = ()
    crawl: CrawlConfig = CrawlConfig()
    clean: CleanConfig = CleanConfig()
    chunk: ChunkConfig = ChunkConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    sparse: SparseConfig = SparseConfig()
    sync: SyncConfig = SyncConfig()
    search: SearchConfig = SearchConfig()


class IndexRecipe(Configuration):
    """Everything that decides what an index holds for a given warehouse; stamped into the index."""

    model: str
    embedder: str
    """Fingerprint of the embedder."""
    dimensions: int
    embedding: EmbeddingConfig
    sparse: SparseConfig
    sparse_encoder: str
    """Fingerprint of the sparse encoder."""
    chunker: str
    """Fingerprint of cleaning and chunking: code version and configuration."""

    def differences(self, other: "IndexRecipe") -> list[str]:
        """Names of the parts in which two recipes would give different indexes (the numeric backend is none of them)."""
        parts = ("embedder", "dimensions", "sparse_encoder", "chunker")
        return [part for part in parts if getattr(self, part) != getattr(other, part)]
