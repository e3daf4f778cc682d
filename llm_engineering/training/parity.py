"""The parity gate: what is released must say what was trained. Log-probabilities and greedy choices, token by token.

Every form of the model reads the same texts: what the adapter writes greedily for some tasks, and the author's own answers
to them where there are any. A form passes if no token's log-probability is far off, and if it would have written the same
tokens; where the two likeliest tokens are nearly equally likely, either may come first.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from llm_engineering.domain.config import Configuration
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import ParityFailed

if TYPE_CHECKING:
    import torch


class Tolerances(Configuration):
    """How far a form may be off, in nats. Wide enough for weights rounded to 16 bits, far too narrow for other weights."""

    mean: float = Field(default=0.05, ge=0)
    """Of the differences of all tokens. Rounding alone comes to 0.023 in 12 layers of random weights with logits up to 25."""
    largest: float = Field(default=0.3, ge=0)
    """Of the difference of any token."""
    tie: float = Field(default=0.1, ge=0)
    """Lead of another token over the adapter's choice under which the two count as equally likely."""
    share: float = Field(default=0.2, gt=0, le=0.5)
    """Part of what the adapter itself changes that a form may be off at most: the base without it must never pass."""

    def beside(self, effect: "Comparison") -> "Tolerances":
        """What is allowed where ``effect`` is how far the base is from the adapter."""
        mean, largest = min(self.mean, self.share * effect.mean), min(self.largest, self.share * effect.largest)
        return self.model_copy(update={"mean": mean, "largest": largest})


class Text(NamedTuple):
    """Token ids of a prompt and of what follows; ``greedy``: the adapter's own likeliest words."""

    prompt: list[int]
    following: list[int]
    greedy: bool


class Reading(NamedTuple):
    """What a model thinks of the tokens of a text: their log-probabilities, and the lead of the likeliest token over each."""

    log_probabilities: "torch.Tensor"
    leads: "torch.Tensor"


class Comparison(Frozen):
    """One form against the adapter."""

    form: str
    tokens: int
    mean: float
    largest: float
    other_choices: int
    """Greedy tokens for which this form would have written another, the lead being more than a tie."""
    ties: int
    passed: bool


class Parity(Frozen):
    """What the gate found."""

    tolerances: Tolerances
    """What was allowed, beside this effect."""
    texts: int
    effect: float
    """Mean difference between base and adapter."""
    comparisons: tuple[Comparison, ...]

    def require(self, *, usual: Tolerances | None = None) -> None:
        """Raise :class:`ParityFailed` unless every form passed; ``usual``: what is allowed beside a strong adapter."""
        for each in self.comparisons:
            if not each.passed:
                raise ParityFailed(
                    f"The {each.form} model is not the one that was trained: log-probabilities differ by {each.mean:.3g} "
                    f"in the mean and {each.largest:.3g} at most (allowed: {self.tolerances.mean:.3g} and "
                    f"{self.tolerances.largest:.3g}), {each.other_choices} of {each.tokens} tokens are others",
                    hint=f"Nothing was released. {self._hint(each, usual or self.tolerances)}",
                )

    def _hint(self, failed: Comparison, usual: Tolerances) -> str:
        if failed.mean <= usual.mean and failed.largest <= usual.largest and not failed.other_choices:
            return (
                f"The adapter itself changes log-probabilities by {self.effect:.3g}: too little to be told from weights that "
                "were rounded to 16 bits. Train longer or at a higher rate."
            )
        return "Was it trained on this base? Look at base and adapter, then export again."


def continued(model: Any, prompts: Sequence[list[int]], *, tokens: int, end: int) -> list[Text]:  # noqa: ANN401
    """What the model writes greedily for each prompt, without its end of turn."""
    import torch

    texts = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=model.device)
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens,
                pad_token_id=end, temperature=None, top_p=None, top_k=None, repetition_penalty=None,
            )  # fmt: skip
        texts.append(Text(prompt, written[0, len(prompt) :].tolist(), greedy=True))
    return [text for text in texts if text.following]


def read(model: Any, texts: Sequence[Text]) -> list[Reading]:  # noqa: ANN401 - peft's models and transformers' alike
    """The model's log-probabilities of what follows each prompt."""
    import torch

    readings = []
    for text in texts:
        ids = torch.tensor([[*text.prompt, *text.following]], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, len(text.prompt) - 1 : -1].float()
        spoken = logits.log_softmax(-1)
        own = spoken.gather(1, ids[0, len(text.prompt) :, None])[:, 0]
        readings.append(Reading(own.cpu(), (spoken.amax(-1) - own).cpu()))
    return readings


def compare(
    form: str, texts: Sequence[Text], expected: Sequence[Reading], found: Sequence[Reading], tolerances: Tolerances
) -> Comparison:
    """One form's readings against the adapter's."""
    import torch

    gaps = torch.cat([f.log_probabilities - e.log_probabilities for e, f in zip(expected, found, strict=True)]).abs()
    choices = [f.leads - e.leads for text, e, f in zip(texts, expected, found, strict=True) if text.greedy]
    leads = torch.cat(choices) if choices else torch.zeros(0)
    others = int((leads > tolerances.tie).sum())
    mean, largest = float(gaps.mean()), float(gaps.max())
    return Comparison(
        form=form,
        tokens=len(gaps),
        mean=mean,
        largest=largest,
        other_choices=others,
        ties=int(((leads > 0) & (leads <= tolerances.tie)).sum()),
        passed=mean <= tolerances.mean and largest <= tolerances.largest and others == 0,  # no number never passes
    )
