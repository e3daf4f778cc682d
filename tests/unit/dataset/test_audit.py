"""The audit finds what must not be there, whoever divided the set."""

import ast
from pathlib import Path

import pytest

from llm_engineering.dataset import audit as module
from llm_engineering.dataset.audit import audit, require_no_leak
from llm_engineering.domain.errors import DatasetLeak
from llm_engineering.domain.samples import InstructionStyle, Pair, PairSource, Split
from tests.unit.dataset.test_split import sample

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"
EIGHT = "one two three four five six seven eight"


def divided(train=(), validation=(), test=()):
    return {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}


def test_a_clean_set_has_no_leak_and_passes():
    found = audit(
        divided([sample("a", "alpha " * 20, instruction="One")], [], [sample("b", "beta " * 20, instruction="Two")])
    )
    assert (found.leaks, found.samples) == (0, 2)
    require_no_leak(found)


@pytest.mark.parametrize(("text", "shared"), [(THIRTEEN, {8: 1, 13: 1}), (EIGHT, {8: 1, 13: 0})])
def test_words_in_a_row_on_two_sides_are_counted_by_length(text, shared):
    train, test = sample("a", f"Mine: {text.upper()}!", instruction="One"), sample("b", text, instruction="Two")
    found = audit(divided([train], [], [test]))
    assert found.overlap["test"].shared == shared
    with pytest.raises(DatasetLeak, match="one two three"):
        require_no_leak(found)


def test_validation_is_held_out_from_training_too():
    found = audit(divided([sample("a", EIGHT, instruction="One")], [sample("b", EIGHT, instruction="Two")]))
    assert found.overlap["validation"].shared[8] == 1


def test_held_out_text_in_an_instruction_is_a_leak():
    train = sample("a", "other", instruction=f"Continue this text:\n\n{EIGHT}", style=InstructionStyle.CONTINUE)
    assert audit(divided([train], [], [sample("b", EIGHT, instruction="Two")])).overlap["test"].shared[8] == 1


def test_a_text_to_continue_without_a_lead_line_is_read_whole():
    train = sample("a", "other", instruction=EIGHT, style=InstructionStyle.CONTINUE)
    assert audit(divided([train], [], [sample("b", EIGHT, instruction="Two")])).overlap["test"].shared[8] == 1


def test_a_document_on_two_sides_is_a_leak():
    found = audit(divided([sample("a", "x", instruction="One")], [], [sample("a", "y", instruction="Two")]))
    assert found.shared_documents == 1


def test_instructions_that_differ_in_case_and_punctuation_are_repeated():
    samples = [sample("a", "x", instruction="What is Kafka?"), sample("a", "y", instruction="what is kafka")]
    assert audit(divided(samples)).repeated_instructions == 1
    found = audit(divided([samples[0]], [], [sample("b", "y", instruction="WHAT IS KAFKA")]))
    assert (found.repeated_instructions, found.instructions_across) == (1, 1)


def test_a_pair_of_equal_answers_and_a_pair_across_sides_are_leaks():
    one = sample("a", "x", instruction="One")
    pair = Pair.of(one, "X!", source=PairSource.BASE, rejected_by="base")
    found = audit(divided([], [], [one]), divided([pair]))
    assert (found.chosen_rejected, found.shared_documents) == (1, 1)


def test_the_error_names_everything_that_was_found():
    samples = [sample("a", EIGHT, instruction="One")], [], [sample("a", EIGHT, instruction="One")]
    with pytest.raises(DatasetLeak) as caught:
        require_no_leak(audit(divided(*samples)))
    assert all(word in str(caught.value) for word in ("documents on two sides", "repeated", "8 words in a row"))


def test_the_audit_shares_no_code_with_what_it_audits():
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name and name.startswith("llm_engineering.dataset")}


def test_the_error_names_the_instructions_that_are_asked_twice():
    twice = [sample("a", "x", instruction="What is\ntop_k?"), sample("b", "y", instruction="What is top-k?")]
    with pytest.raises(DatasetLeak, match='"What is top_k\\?"; the instruction "What is top-k'):
        require_no_leak(audit(divided(twice)))
    with pytest.raises(DatasetLeak, match=r'two sides; for example .*"What is top'):
        require_no_leak(audit(divided(twice[:1], [], twice[1:])))


def test_the_error_names_the_question_of_a_pair_of_equal_answers():
    pair = Pair.of(sample("a", "x", instruction="Why so?"), "X!", source=PairSource.BASE, rejected_by="base")
    with pytest.raises(DatasetLeak, match='the pair of the instruction "Why so'):
        require_no_leak(audit({}, divided([pair])))
