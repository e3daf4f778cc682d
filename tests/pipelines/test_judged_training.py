"""Both stages of training and the judgement with the default gate: small enough for a test, and something is learnt."""

import pytest

from llm_engineering.dataset import store
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.samples import Sample, Split
from llm_engineering.domain.twin_evaluation_config import TwinEvaluationConfig
from llm_engineering.training.hardware import is_installed
from tests.doubles.training import small_recipe
from tests.unit.evaluation.trained import pair, sample, write_dataset
from tests.unit.evaluation.writers import writer

if not (is_installed("trl") and is_installed("peft")):
    pytest.skip("the extra train is not installed", allow_module_level=True)

from llm_engineering.training.dpo import dpo
from llm_engineering.training.export import export
from llm_engineering.training.sft import sft
from steps.twin_evaluation import Judgement, judge_twin

CONFIG = EvaluationConfig(
    resamples=100, twin=TwinEvaluationConfig(limit=6, sampling=Sampling(temperature=0.7, max_tokens=80, seed=7))
)


@pytest.fixture(scope="module")
def judgement(tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    home = tmp_path_factory.mktemp("trained")
    samples = {split: texts(split, count) for split, count in zip(Split, (24, 4, 6), strict=True)}
    dataset = write_dataset(home / "v1", samples)
    for split, found in samples.items():
        rows = [store._pair_row(pair(each, other_voice(number))) for number, each in enumerate(found)]
        store._parquet(dataset / "preference" / f"{split}.parquet", store.PREFERENCE, rows)
    recipe = small_recipe(
        sft__max_steps=24, sft__evaluate_every=12, sft__learning_rate=1e-2, dpo__learning_rate=1e-3
    )  # fmt: skip
    sft(recipe, dataset=dataset, out=home / "run")
    dpo(recipe, dataset=dataset, out=home / "run", start=home / "run" / "sft")
    export(home / "run" / "dpo", home / "run" / "release", name="ada")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIN_HOME", str(home / "home"))
        patch.setenv("LLM_MODEL", "offline")
        return judge_twin(CONFIG, str(home / "run" / "release"), name="ada")


def texts(split: Split, count: int) -> list[Sample]:
    seed = list(Split).index(split)
    return [sample(text, "Ada") for text in writer("ada", seed=seed, prefix=split, documents=count, words=40)]


def other_voice(number: int) -> str:
    return writer("ben", seed=99 + number, documents=1, words=40)[0].text


def mean(judgement: Judgement, name: str) -> float:
    return next(
        figure.interval.mean
        for part in judgement.found.parts
        for figure in part.figures
        if figure.name == name and figure.interval
    )


def test_held_out_perplexity_falls_from_base_to_sft_and_the_default_gate_promotes(judgement: Judgement) -> None:
    answers = "perplexity, answers to instructions"
    assert mean(judgement, f"{answers} (sft)") < mean(judgement, f"{answers} (base)")
    assert judgement.promotion.passed, judgement.promotion.lines()


def test_reward_accuracy_on_held_out_pairs_rises_under_dpo(judgement: Judgement) -> None:
    assert mean(judgement, "reward accuracy") > 0.5
    assert mean(judgement, "reward margin against the base, after DPO") > mean(
        judgement, "reward margin against the base, before DPO"
    )
