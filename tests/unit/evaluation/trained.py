"""A dataset on disk, a twin that writes as told, and scorers of a byte-level model: for tests of judging a trained twin."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from llm_engineering.dataset import store
from llm_engineering.domain.answers import Prompt, Reply
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.entities import Kind
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle, Pair, PairSource, Provenance, Sample, Split
from llm_engineering.evaluation.prose import StyleText
from llm_engineering.evaluation.twin import OpenScorer, Scorer
from tests.doubles.models import ScriptedModel


def sample(text: StyleText, author: str, number: int = 0, *, rephrased: bool = False) -> Sample:
    where = Provenance(
        author_id=author, author=author, document_id=text.document_id, revision=1, start=0, end=len(text.text), title="T",
        url=f"https://a.example/{text.document_id}", kind=Kind.ARTICLE,
    )  # fmt: skip
    passage = AuthorPassage(provenance=where, text=text.text)
    return Sample.of(
        passage, f"Write {number} of {text.document_id}", style=InstructionStyle.BRIEF, written_by="rules",
        answer=text.text if rephrased else None,
    )  # fmt: skip


def write_dataset(
    folder: Path, samples: dict[Split, Sequence[Sample]], *, pairs: Sequence[Pair] = (), learnt: Sequence[Pair] = ()
) -> Path:
    """A dataset's folder as training reads it; the pairs are of the test split, those ``learnt`` of the training split."""
    for split in Split:
        rows = [store._sample_row(each) for each in samples.get(split, ())]
        store._parquet(folder / "instruct" / f"{split}.parquet", store.INSTRUCT, rows)
    for split, found in ((Split.TEST, pairs), (Split.TRAIN, learnt)):
        if found:
            rows = [store._pair_row(each) for each in found]
            store._parquet(folder / "preference" / f"{split}.parquet", store.PREFERENCE, rows)
    return folder


def pair(of: Sample, rejected: str) -> Pair:
    return Pair.of(of, rejected, source=PairSource.BASE, rejected_by="base")


class Twin(ScriptedModel):
    """Writes what is given for each instruction, and nothing of use for others."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__()
        self.texts = texts

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        self.prompts.append(prompt)
        return Reply(text=self.texts.get(prompt.question, ""), model="twin")


def scorer(*, likely: str = "", chance: float = 1 / 256) -> OpenScorer:
    """A byte-level model: every byte has that chance, those of ``likely`` an even one."""
    favoured = set(likely.encode())

    def log_probabilities(ids: Sequence[int]) -> list[float]:
        return [math.log(0.5 if each in favoured else chance) for each in ids[1:]]

    found = Scorer(
        encode=lambda text: [0, *text.encode()],
        render=lambda prompt, answer: ([0, *prompt.question.encode()], list(answer.encode())),
        log_probabilities=log_probabilities,
        window=64,
    )
    return lambda: nullcontext(found)
