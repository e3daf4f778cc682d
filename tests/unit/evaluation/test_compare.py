from pathlib import Path

import pytest

from llm_engineering.domain.entities import now
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import MemorisationConfig
from llm_engineering.evaluation.compare import Difference, compare, markdown
from llm_engineering.evaluation.memorisation import TWIN, memorisation
from llm_engineering.evaluation.overlap import Answered, overlap
from llm_engineering.evaluation.perplexity import Told, perplexity
from llm_engineering.evaluation.prose import StyleText
from llm_engineering.evaluation.report import Evaluated, EvaluationReport, Part, combined

EVALUATION = EvaluationConfig(resamples=200)
PLACES = range(8)


def report(*parts: Part, dataset: str = "v1") -> EvaluationReport:
    return combined([Evaluated(parts=parts, facts={"dataset": dataset})], out=Path("out"), at=now())


def compared(one: EvaluationReport, other: EvaluationReport) -> dict[str, Difference]:
    return {each.figure: each for each in compare(one, other, config=EVALUATION).differences}


def answers(twin: str, *, documents: int = 8, ids: str = "") -> Part:
    author = "the bees fly over the tomatoes at dawn"
    answered = [
        Answered(id=f"{ids}{n}", document_id=f"d{n % documents}", instruction="?", author=f"{author} {n}", twin=twin)
        for n in PLACES
    ]
    return overlap(answered, evaluation=EVALUATION)


def surprised(nats: float, *, tokens: int = 10) -> list[Part]:
    """Texts of a hundred characters each."""
    texts = [Told(id=str(n), document_id=f"d{n}", nats=nats + n, tokens=tokens + n, characters=100) for n in PLACES]
    return perplexity({"x": texts}, evaluation=EVALUATION)


def test_one_document_tells_nothing_of_others_and_its_interval_is_not_shown() -> None:
    bad, good = answers("something else"), answers("the bees fly over the tomatoes")
    assert compared(report(bad), report(good))["ROUGE-L"].told == "differs"
    bad, good = answers("something else", documents=1), answers("the bees fly over the tomatoes", documents=1)
    found = compared(report(bad), report(good))
    assert {each.told for each in found.values()} == {"too few documents"}
    assert set(found) == {"ROUGE-L", "BLEU"}


def test_figures_over_other_texts_are_never_said_to_differ() -> None:
    found = compared(report(answers("no", ids="a")), report(answers("the bees fly over the tomatoes", ids="b")))
    assert found["ROUGE-L"].told == "other texts"
    same_ids = compared(report(answers("no")), report(answers("the bees fly over the tomatoes"), dataset="v2"))
    assert (same_ids["ROUGE-L"].told, same_ids["BLEU"].told) == ("differs", "other texts")


def test_perplexity_and_bits_are_compared_text_by_text() -> None:
    found = compared(report(*surprised(30.0)), report(*surprised(28.0)))
    assert {name: each.told for name, each in found.items()} == {
        "perplexity, x": "differs", "nats per token, x": "differs", "bits per character, x": "differs",
    }  # fmt: skip
    for each in found.values():
        assert each.paired and each.paired.mean == pytest.approx(each.second.mean - each.first.mean)


def test_of_models_with_other_tokens_bits_alone_are_compared() -> None:
    one, other = report(*surprised(30.0)), report(*surprised(28.0, tokens=14))
    found = {name: each.told for name, each in compared(one, other).items()}
    assert found == {
        "perplexity, x": "other units", "nats per token, x": "other units", "bits per character, x": "differs",
    }  # fmt: skip
    assert "| – | other units |" in markdown(compare(one, other, config=EVALUATION))


def test_memorisation_is_compared_document_by_document() -> None:
    def memorised(words: str) -> EvaluationReport:
        texts = [StyleText(document_id=f"d{n}", text=f"{words} {n} and more of that") for n in PLACES]
        training = [StyleText(document_id="t", text="the bees fly over the tomatoes at dawn")]
        config = MemorisationConfig(gram=3)
        return report(*memorisation(twin=texts, held_out=[], training=training, config=config, evaluation=EVALUATION))

    found = compared(memorised("some other words stand here"), memorised("the bees fly over the tomatoes"))
    share = found[f"share of 3-grams in the training text, {TWIN}"]
    assert share.told == found[f"longest verbatim run of a text (words), {TWIN}"].told == "differs"
    assert share.paired and share.paired.mean == pytest.approx(share.second.mean - share.first.mean)
