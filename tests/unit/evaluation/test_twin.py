import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
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
from llm_engineering.evaluation.human import blind_pairs
from llm_engineering.evaluation.overlap import Answered
from llm_engineering.evaluation.replaced import style_possible
from llm_engineering.evaluation.report import Evaluated, EvaluationReport, combined
from llm_engineering.evaluation.twin import Scorer, _scored, evaluate_model
from tests.unit.evaluation.trained import Twin, pair, sample, scorer, write_dataset
from tests.unit.evaluation.writers import writer

EVALUATION = EvaluationConfig(resamples=100)
CONFIG = TwinEvaluationConfig(style=StyleConfig(words=40, folds=3), sampling=Sampling(temperature=0.0))
LETTERS = "abcdefghijklmnopqrstuvwxyz ."


class Answers:
    """A journal in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, JournalEntry] = {}

    def journal(self, keys: Sequence[str]) -> dict[str, JournalEntry]:
        return {key: self.kept[key] for key in keys if key in self.kept}

    def save_journal(self, entries: Sequence[JournalEntry]) -> set[str]:
        self.kept |= {entry.key: entry for entry in entries}
        return set()


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


def judged(
    held_out: HeldOut,
    twin: Twin,
    *,
    name: str = "me@1",
    current: Twin | None = None,
    journal: Answers | None = None,
    choices: Sequence[BlindChoice] = (),
    weights: str = "",
) -> tuple[Evaluated, list[Answered]]:
    work = evaluate_model(
        name,
        held_out,
        model=twin,
        current=current,
        scorers={"base": scorer(), "sft": scorer(likely=LETTERS), "dpo": scorer(likely=LETTERS, chance=1 / 1000)},
        judging=None,
        journal=journal or Answers(),
        choices=choices,
        weights=weights,
        config=CONFIG,
        evaluation=EVALUATION,
    )
    return asyncio.run(work)


def in_style_of(held_out: HeldOut, name: str) -> Twin:
    texts = writer(name, seed=9, documents=len(held_out.tasks))
    twin = Twin({task.instruction: text.text for task, text in zip(held_out.tasks, texts, strict=True)})
    twin.name = name
    return twin


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
        "Answers to held-out instructions",
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
    assert [part.name for part in good[0].parts if part.missing] == ["Judge", "People, blind"]


def test_choices_count_for_the_weights_and_texts_that_they_were_about(held_out: HeldOut) -> None:
    twin = in_style_of(held_out, "ada")
    _, answered = judged(held_out, twin, weights="w1")
    (shown,) = blind_pairs(answered, model="me@1", author="Ada", weights="w1", limit=1, evaluation=EVALUATION)
    choices = [BlindChoice(pair_id=shown.id, model="me@1", judge="j", taken="twin")]
    counted = {
        weights: judged(held_out, twin, weights=weights, choices=choices)[0].parts[-1].counts["choices"]
        for weights in ("w1", "w2")
    }
    assert counted == {"w1": 1, "w2": 0}


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


def test_reward_accuracy_is_told_before_and_after_dpo(good: tuple[Evaluated, list[Answered]]) -> None:
    assert mean(good[0], "reward accuracy against the base, before DPO") == 1.0
    assert mean(good[0], "reward margin against the base, after DPO") > mean(
        good[0], "reward margin against the base, before DPO"
    )


ONLY_STYLE = GateConfig(memorised_share=None, longest_run=None, perplexity_ratio=None, parity=None)


@pytest.mark.parametrize(("candidate", "current", "failed"), [("ben", "ada", ["style"]), ("ada", "ben", [])])
def test_styles_are_compared_over_the_same_instructions(
    held_out: HeldOut, candidate: str, current: str, failed: list[str]
) -> None:
    found, _ = judged(held_out, in_style_of(held_out, candidate), current=in_style_of(held_out, current))
    figures = measured(found.parts)
    assert None not in (figures.style, figures.current_style)
    gate = promotion(figures, current="me@1", config=ONLY_STYLE)
    assert [check.name for check in gate.checks if not check.passed] == failed


def test_what_the_current_twin_wrote_before_is_not_written_again(held_out: HeldOut) -> None:
    journal, current = Answers(), in_style_of(held_out, "ada")
    candidate = in_style_of(held_out, "ben")
    first, _ = judged(held_out, candidate, current=current, journal=journal)
    asked = len(current.prompts)
    again, _ = judged(held_out, candidate, current=current, journal=journal)
    assert (asked, len(current.prompts)) == (len(held_out.tasks), asked)
    assert again == first


class Closing(Twin):
    """Says when it is closed."""

    def __init__(self, texts: dict[str, str], log: list[str], name: str) -> None:
        super().__init__(texts)
        self.log, self.name = log, name

    async def close(self) -> None:
        self.log.append(f"{self.name} closed")


def test_who_has_written_is_closed_before_another_model_is_opened(held_out: HeldOut) -> None:
    log: list[str] = []

    @contextmanager
    def opened() -> Iterator[Scorer]:
        log.append("scorer opened")
        with scorer()() as found:
            yield found

    work = evaluate_model(
        "me@2", held_out, model=Closing({}, log, "twin"), current=Closing({}, log, "current"), scorers={"base": opened},
        judging=None, journal=Answers(), choices=(), config=CONFIG, evaluation=EVALUATION,
    )  # fmt: skip
    asyncio.run(work)
    assert log == ["twin closed", "current closed", "scorer opened"]


def test_a_silent_twin_is_evaluated_and_passes_no_gate(held_out: HeldOut) -> None:
    found, answered = judged(held_out, Twin({}))
    assert {one.twin for one in answered} == {""}
    memorised = next(part for part in found.parts if part.name == "Memorisation")
    assert memorised.missing == "the twin has written nothing"
    gate = promotion(measured(found.parts, parity=0.0), current=None, config=GateConfig())
    assert [check.name for check in gate.checks if not check.passed] == ["usable answers", "style", "memorised share"]


def test_a_twin_that_answers_one_instruction_in_a_few_words_passes_no_gate(held_out: HeldOut) -> None:
    found, _ = judged(held_out, Twin({held_out.tasks[0].instruction: "blue the of seven a runs under table quickly"}))
    gate = promotion(measured(found.parts, parity=0.0), current=None, config=GateConfig())
    assert [check.name for check in gate.checks if not check.passed] == ["usable answers", "style"]


def test_style_is_possible_where_the_author_has_documents_enough(held_out: HeldOut) -> None:
    assert style_possible(held_out.answers, CONFIG.style)
    assert not style_possible(held_out.answers[:3], CONFIG.style)


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
    part = found.parts[0]
    assert part.findings == {"Of no use": ("the server answered with a web page. Check LLM_BASE_URL (3 times)",)}
    assert mean(found, "usable answers") == 0  # one word is no answer either


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
