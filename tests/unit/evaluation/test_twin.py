import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from llm_engineering.domain.answers import Prompt, Reply
from llm_engineering.domain.blind import BlindChoice
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.entities import now
from llm_engineering.domain.errors import ModelReplyInvalid, UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.samples import JournalEntry, Split
from llm_engineering.domain.twin_evaluation_config import GateConfig, StyleConfig, TwinEvaluationConfig
from llm_engineering.evaluation import compare as comparison
from llm_engineering.evaluation.folder import write
from llm_engineering.evaluation.gate import measured, promotion
from llm_engineering.evaluation.held_out import HeldOut, read_held_out
from llm_engineering.evaluation.overlap import Answered
from llm_engineering.evaluation.report import Evaluated, EvaluationReport, combined
from llm_engineering.evaluation.twin import _scored, evaluate_model
from tests.unit.evaluation.trained import Twin, pair, sample, scorer, write_dataset
from tests.unit.evaluation.writers import writer

EVALUATION = EvaluationConfig(resamples=100)
CONFIG = TwinEvaluationConfig(style=StyleConfig(words=40, folds=3), sampling=Sampling(temperature=0.0))
LETTERS = "abcdefghijklmnopqrstuvwxyz ."


class NoJournal:
    def journal(self, keys: Sequence[str]) -> dict[str, JournalEntry]:
        raise AssertionError("nothing is judged")

    def save_journal(self, entries: Sequence[JournalEntry]) -> set[str]:
        raise AssertionError("nothing is judged")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    folder = tmp_path_factory.mktemp("data") / "v1"
    train = [sample(text, "Ada") for text in writer("ada", prefix="known")]
    train += [sample(text, name) for name in ("ben", "cyd") for text in writer(name)]
    test = [sample(text, "Ada") for text in writer("ada", seed=1, prefix="held", documents=6)]
    test += [sample(text, "ben") for text in writer("ben", seed=1, documents=2, prefix="held-ben")]
    pairs = [pair(each, "QQQ") for each in test[:4]]
    write_dataset(folder, {Split.TRAIN: train, Split.TEST: test}, pairs=pairs)
    return read_held_out(folder, limit=50, seed=7)


def judged(held_out: HeldOut, twin: Twin, *, name: str = "me@1") -> tuple[Evaluated, list[Answered]]:
    work = evaluate_model(
        name,
        held_out,
        model=twin,
        scorers={"base": scorer(), "sft": scorer(likely=LETTERS), "dpo": scorer(likely=LETTERS, chance=1 / 1000)},
        judging=None,
        journal=NoJournal(),
        choices=[BlindChoice(pair_id="p", model="me@1", judge="j", taken="twin")],
        config=CONFIG,
        evaluation=EVALUATION,
    )
    return asyncio.run(work)


def in_style_of(held_out: HeldOut, name: str) -> Twin:
    texts = writer(name, seed=9, documents=len(held_out.tasks))
    return Twin({task.instruction: text.text for task, text in zip(held_out.tasks, texts, strict=True)})


@pytest.fixture(scope="module")
def good(held_out: HeldOut) -> tuple[Evaluated, list[Answered]]:
    return judged(held_out, in_style_of(held_out, "ada"))


@pytest.fixture(scope="module")
def bad(held_out: HeldOut) -> tuple[Evaluated, list[Answered]]:
    return judged(held_out, in_style_of(held_out, "ben"), name="me@2")


def mean(found: Evaluated, figure: str) -> float:
    return next(
        each.interval.mean for part in found.parts for each in part.figures if each.name == figure and each.interval
    )


def report(found: Evaluated, out: Path) -> EvaluationReport:
    return combined([found], out=out, at=now())


def test_one_evaluation_has_every_measure(good: tuple[Evaluated, list[Answered]]) -> None:
    assert [part.name for part in good[0].parts] == [
        "Perplexity on the author's held-out text",
        "Bits and nats of the author's held-out text",
        "Preference on held-out pairs",
        "Style: twin against the author",
        "Style: whose the output is taken for",
        "Style: Burrows's Delta",
        "Memorisation",
        "Memorisation: longest runs",
        "Overlap with the author's answers",
        "Judge",
        "People, blind",
    ]
    assert [part.name for part in good[0].parts if part.missing] == ["Judge"]


def test_perplexity_falls_from_base_to_twin_and_is_of_the_last_stage(good: tuple[Evaluated, list[Answered]]) -> None:
    found = good[0]
    assert mean(found, "perplexity, answers to instructions") < mean(
        found, "perplexity, answers to instructions (base)"
    )
    assert mean(found, "perplexity, answers to instructions (base)") == pytest.approx(256)


def test_rewards_are_those_of_the_last_stage_against_sft(good: tuple[Evaluated, list[Answered]]) -> None:
    assert mean(good[0], "reward accuracy") == 1.0
    assert mean(good[0], "reward margin") > 0


def test_the_twin_is_asked_with_the_prompt_it_was_trained_on(held_out: HeldOut) -> None:
    twin = in_style_of(held_out, "ada")
    judged(held_out, twin)
    assert {prompt.messages[0].content.split("\n")[0] for prompt in twin.prompts} == {
        "You are the writing twin of Ada. You speak in the first person, as Ada, in the voice of the writings."
    }


def test_a_pair_about_several_authors_is_read_in_the_voice_that_training_showed_it_in(held_out: HeldOut) -> None:
    nobodys = held_out.pairs[0].model_copy(update={"author": None})
    heard = []
    with scorer()() as plain:

        def render(prompt: Prompt, answer: str) -> tuple[Sequence[int], Sequence[int]]:
            heard.append(prompt)
            return plain.render(prompt, answer)

        _scored(
            held_out.model_copy(update={"pairs": (nobodys,)}),
            {"dpo": lambda: nullcontext(replace(plain, render=render))}, CONFIG, EVALUATION,
        )  # fmt: skip
    assert heard[-2:] == [voice_prompt(nobodys.instruction, author=None)] * 2
    assert heard[0] == voice_prompt(held_out.tasks[0].instruction, author="Ada")


def test_what_was_left_out_of_the_held_out_texts_is_among_the_facts(held_out: HeldOut) -> None:
    found, _ = judged(held_out.model_copy(update={"left_out": {"tasks that a model answered": 3}}), Twin({}))
    assert found.facts["left out: tasks that a model answered"] == "3"


def test_a_twin_in_anothers_style_measures_worse_and_is_not_promoted(
    good: tuple[Evaluated, list[Answered]], bad: tuple[Evaluated, list[Answered]]
) -> None:
    current, candidate = measured(good[0].parts, parity=0.0), measured(bad[0].parts, parity=0.0)
    candidate = candidate.model_copy(update={"current_bits": current.bits})
    gate = promotion(candidate, current=current, config=GateConfig(memorised_share=None, longest_run=None))
    assert [check.name for check in gate.checks if not check.passed] == ["style"]
    assert promotion(current, current=None, config=GateConfig(memorised_share=1, longest_run=1000)).passed


def test_a_silent_twin_is_evaluated_and_passes_no_gate(held_out: HeldOut) -> None:
    found, answered = judged(held_out, Twin({}))
    assert {one.twin for one in answered} == {""}
    memorised = next(part for part in found.parts if part.name == "Memorisation")
    assert memorised.missing == "the twin has written nothing"
    gate = promotion(measured(found.parts, parity=0.0), current=None, config=GateConfig())
    assert [check.name for check in gate.checks if not check.passed] == ["memorised share"]


class Sometimes(Twin):
    """Has no reply of use to every other question, the first among them."""

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        self.prompts.append(prompt)
        if len(self.prompts) % 2:
            raise ModelReplyInvalid("the server answered with a web page", hint="Check LLM_BASE_URL.")
        return Reply(text="Well.", model="twin")


def test_replies_of_no_use_count_as_empty_answers_and_the_facts_say_why(held_out: HeldOut) -> None:
    found, answered = judged(held_out, Sometimes({}))
    assert [one.twin for one in answered] == ["", "Well."] * 3
    assert found.facts["without a usable answer"] == "3"
    assert found.facts["because"] == "the server answered with a web page. Check LLM_BASE_URL (3 times)"


def test_the_report_is_written_whole_and_read_again(tmp_path: Path, good: tuple[Evaluated, list[Answered]]) -> None:
    one = report(good[0], tmp_path / "one")
    write(one, level=EVALUATION.level)
    assert (tmp_path / "one" / "report.png").stat().st_size > 10_000
    assert "twin against author, by function words" in (tmp_path / "one" / "report.md").read_text(encoding="utf-8")
    assert comparison.read_report(tmp_path / "one") == one


def test_the_report_holds_no_text_of_the_author(tmp_path: Path, good: tuple[Evaluated, list[Answered]]) -> None:
    kept = report(good[0], tmp_path).model_dump_json()
    for one in good[1]:
        assert one.author[:30] not in kept and one.twin[:30] not in kept


def test_two_runs_are_compared_figure_by_figure_over_the_same_texts(
    tmp_path: Path, good: tuple[Evaluated, list[Answered]], bad: tuple[Evaluated, list[Answered]]
) -> None:
    found = comparison.compare(report(good[0], tmp_path / "a"), report(bad[0], tmp_path / "b"), config=EVALUATION)
    differences = {each.figure: each for each in found.differences}
    assert found.facts == {"model": ("me@1", "me@2")}
    rouge = differences["ROUGE-L"]
    assert rouge.paired and rouge.paired.n == 6 and rouge.told == "differs"
    assert rouge.paired.mean == pytest.approx(rouge.second.mean - rouge.first.mean)
    assert differences["nats per token, plain text"].told == "not told apart"
    assert differences["twin against author, by function words"].paired is None
    assert "| ROUGE-L |" in comparison.markdown(found)


def test_a_run_compared_with_itself_differs_nowhere(tmp_path: Path, good: tuple[Evaluated, list[Answered]]) -> None:
    one = report(good[0], tmp_path)
    found = comparison.compare(one, one, config=EVALUATION)
    assert {each.told for each in found.differences} == {"not told apart"}
    assert all(each.paired is None or each.paired.mean == 0 for each in found.differences)


def test_a_folder_without_report_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no evaluation report"):
        comparison.read_report(tmp_path)
    (tmp_path / "report.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UsageError, match="none of this version"):
        comparison.read_report(tmp_path)
