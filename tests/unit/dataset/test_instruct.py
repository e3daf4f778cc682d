"""Instructions by rules read as if a person had asked, and no two are the same."""

import textwrap
from collections import Counter

import pytest
from inline_snapshot import snapshot

from llm_engineering.dataset.instruct import instruct
from llm_engineering.dataset.phrases import key_phrases
from llm_engineering.dataset.topics import Wording, cleaned, cleaned_title, topic_of
from llm_engineering.dataset.words import same_question
from llm_engineering.domain.dataset_config import InstructConfig
from llm_engineering.domain.entities import Kind
from llm_engineering.domain.samples import InstructionStyle
from tests.doubles.writing import article, passages_of, sentence
from tests.unit.dataset.test_passages import state

BODY = (
    "The residual stream of a model holds a **refusal direction**. We measure the refusal direction with harmless prompts, "
    "and then the weight matrices are made orthogonal to it."
)


def only(style):
    return InstructConfig(styles={style: 1.0})


def asked(text, style, **fields):
    return [sample.instruction for sample in instruct(passages_of(state(text, **fields))[0], only(style))[0]]


@pytest.mark.parametrize(
    ("heading", "question"),
    [
        ("What is abliteration?", "What is abliteration?"),
        ("#2. How to quantize LLMs with GGML?", "How do I quantize LLMs with GGML?"),
        ("💻 Merge your own models", "How do I merge my own models?"),
        ("Creating a frankenMoE", "How do I go about creating a frankenMoE?"),
        ("Understanding the streaming flow", "Can you walk me through the streaming flow?"),
        ("NF4 vs. GGML vs. GPTQ", "How do NF4, GGML and GPTQ compare?"),
        ("The difference between A and B", "What is the difference between A and B?"),
        ("7 tips to reduce your VRAM", "What are the 7 tips to reduce my VRAM?"),
        ("The architecture of our pipeline", "Can you tell me about the architecture of your pipeline?"),
        ("Introduction to MoEs", "Can you give me an introduction to MoEs?"),
        ("How I generated PyDocs in <1 hour", "Can you tell me how you generated PyDocs in <1 hour?"),
        ("How does this fit into our architecture?", "How does this fit into your architecture?"),
        ("Storytime: How am I writing code in 2023? I don't", "How are you writing code in 2023?"),
        ("The 4 Advanced RAG Steps You Must Know", "What are the 4 Advanced RAG Steps I Must Know?"),
        ("Embed query", ""),
        ("A citation is a claim", ""),
    ],
)
def test_a_heading_becomes_the_question_that_it_answers(heading, question):
    assert topic_of(heading, Wording("the streaming flow and the merge of the pipeline")).question == question


@pytest.mark.parametrize(
    ("heading", "text"),
    [
        ("✂️ What is abliteration?", "What is abliteration?"),
        ("4.1. Embed query", "Embed query"),
        ("🧠 III. Q-learning", "Q-learning"),
        ("Step 2: Lazy Batch-Updates", "Lazy Batch-Updates"),
        ("IV", "IV"),
    ],
)
def test_numbers_emoji_and_labels_are_no_part_of_a_topic(heading, text):
    assert cleaned(heading) == text


@pytest.mark.parametrize(
    "title",
    ["Ann Lee - The rise", "The rise - by Ann Lee", "The rise - Ann Lee", "DML: The rise", "The rise | Ann Lee"],
)
def test_names_of_author_and_series_are_no_part_of_a_title(title):
    assert cleaned_title(title, "Ann Lee").lower() == "the rise"


def test_a_capital_counts_as_a_name_only_where_the_document_writes_it_so():
    wording = Wording("we use weight decay and then with Redis we store weight")
    assert topic_of("Weight decay with Redis", wording).inside == "weight decay with Redis"


def test_every_style_reads_well():
    text = f"# Models\n\n{BODY}\n\n## The stream\n\n{sentence('two')} {BODY}\n\n## Conclusion\n\n{BODY} Yes."
    found = [
        f"{style}: {' / '.join(each.split(chr(10)))}"
        for style in InstructionStyle
        for each in asked(text, style, title="Models")
    ]
    assert "\n".join(textwrap.fill(line, 110) for line in found) == snapshot("""\
ask: What is "Models" about?
ask: When it comes to the stream, what should I know about two0e two0f two0g, two0j two0k two0l and the
refusal direction?
ask: In the part "Conclusion" of "Models", what do you say about the residual stream, the refusal direction
and harmless prompts?
brief: Write the opening of an article titled "Models". Touch on the residual stream, the refusal direction
and harmless prompts.
brief: Draft a section called "The stream". Touch on two0e two0f two0g, two0j two0k two0l and the refusal
direction. It belongs to an article titled "Models".
brief: Write the conclusion of an article titled "Models". It should mention the residual stream, the refusal
direction and harmless prompts.
title: Models
title: Models: The stream
title: Models: Conclusion
continue: What comes next? /  / We measure the refusal direction with harmless prompts, and then the weight
matrices are made orthogonal to it. /  / ## The stream
continue: What comes next? /  / We measure the refusal direction with harmless prompts, and then the weight
matrices are made orthogonal to it. /  / ## Conclusion
reply: I've just read "Models" and I'm not sure I got everything about the residual stream and the refusal
direction. Could you explain that part once more?
reply: I've just read "Models" and I'm not sure I got everything about two0e two0f two0g and two0j two0k
two0l. Could you explain that part once more?
reply: A colleague asked me about the residual stream and the refusal direction, and I didn't know what to
say. You wrote "Models": what would you answer?\
""")


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("The sync starts by copying the index.", []),
        (
            "We call `read()`, and the outbox (`a` or `b`), then the optional doorbell.",
            ["`read()`", "the optional doorbell"],
        ),
        ("It holds the refusal direction and harmless prompts.", ["the refusal direction", "harmless prompts"]),
        ("Use LoRA with 168MB of VRAM.", ["LoRA", "VRAM"]),
    ],
)
def test_key_phrases_are_noun_phrases_and_names(text, phrases):
    assert key_phrases(text) == phrases


def test_no_two_samples_have_the_same_instruction():
    passages = [passage for _ in range(3) for passage in passages_of(state(article("kafka", "bread")))[0]]
    samples, refusals = instruct(passages, InstructConfig())
    questions = [same_question(sample.instruction) for sample in samples]
    assert len(set(questions)) == len(questions)
    assert len(samples) + len(refusals) == len(passages)


def test_the_answer_is_the_passage():
    (passage,), _ = passages_of(state(sentence("kafka")))
    (sample,), _ = instruct([passage], InstructConfig())
    assert (sample.answer, sample.provenance, sample.written_by) == (passage.text, passage.provenance, "rules")


def test_a_passage_is_asked_for_in_the_same_words_whatever_else_there_is():
    first = passages_of(state(article("kafka"), title="About kafka"))[0]
    more = passages_of(state(article("bread", "chess"), title="About food"))[0]
    alone, _ = instruct(first, InstructConfig())
    together, _ = instruct([*first, *more], InstructConfig())
    assert together[: len(alone)] == alone


def test_styles_come_in_about_the_configured_proportions():
    passages = [
        passage
        for n in range(120)
        for passage in passages_of(state(article(f"a{n}", f"b{n}"), title=f"All about {n} things"))[0]
    ]
    samples, _ = instruct(passages, InstructConfig())
    shares = Counter(sample.style for sample in samples)
    for style, share in InstructConfig().styles.items():
        assert abs(shares[style] / len(samples) - share) < 0.12


def test_several_instructions_for_a_passage_have_different_styles():
    passages, _ = passages_of(state(f"## On kafka\n\n{BODY}\n\n{sentence('kafka')}"))
    samples, _ = instruct(passages, InstructConfig(per_passage=3))
    assert len({sample.style for sample in samples if sample.answer == passages[0].text}) == 3


def test_another_language_gets_styles_that_need_no_language():
    text = "## Der Rückstand\n\nDas ist ein Absatz, der von nichts als von sich selbst und seinen Worten handelt.\n\n"
    passages, _ = passages_of(state(text))
    assert passages[0].provenance.language is None
    samples, _ = instruct(passages, InstructConfig(per_passage=5))
    assert {sample.style for sample in samples} <= {InstructionStyle.TITLE, InstructionStyle.CONTINUE}
    assert samples[0].instruction == "Der Rückstand (A title)"


def test_a_documented_function_is_asked_for_by_its_signature():
    from llm_engineering.domain.entities import TextFormat

    code = 'def gaps(text, chunks):\n    """Stretches of the text that no chunk of them covers, in order."""\n    return []\n'
    one = state(code, kind=Kind.REPOSITORY, format=TextFormat.CODE, metadata={"path": "spans.py"})
    (sample,), _ = instruct(passages_of(one)[0], only(InstructionStyle.BRIEF))
    assert sample.instruction == "Write the documented function `gaps(text, chunks)` for `spans.py`."
