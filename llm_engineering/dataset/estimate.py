"""What a run would ask and cost, before its first call."""

from collections.abc import Sequence

from pydantic import Field

from llm_engineering.dataset.asking import Request, Shape
from llm_engineering.dataset.budget import price
from llm_engineering.domain.dataset_config import TeacherConfig
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.ports import ChatModel, Warehouse

_PAGE = 500


class Estimate(Frozen):
    """What a run would ask and cost, found without a call."""

    prompts: int = 0
    """Calls to be made."""
    replayed: int = 0
    """Requests that the journal answers."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    likely: float = 0.0
    """Money for one round each, with replies of ordinary length; token counts are over-estimates."""
    most: float = 0.0
    """Money if every reply took all of ``max_tokens`` and a repair round."""
    examples: dict[str, str] = Field(default_factory=dict)
    """By template, the first prompt as it would be sent."""

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(
            prompts=self.prompts + other.prompts,
            replayed=self.replayed + other.replayed,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            likely=self.likely + other.likely,
            most=self.most + other.most,
            examples=other.examples | self.examples,
        )


def estimated(
    requests: Sequence[Request[Shape]], *, model: ChatModel, warehouse: Warehouse, config: TeacherConfig
) -> Estimate:
    """Count the requests to one model; those that the journal holds, and repetitions, cost nothing."""
    asked: dict[str, Request[Shape]] = {}
    replayed = 0
    for start in range(0, len(requests), _PAGE):
        page = {request.key(model.name): request for request in requests[start : start + _PAGE]}
        kept = warehouse.journal(list(page))
        known = {key for key, request in page.items() if request.replayed(kept.get(key)) is not None}
        replayed += len(known)
        asked |= {key: request for key, request in page.items() if key not in known}
    count = model.count_tokens
    tokens = [(request.tokens(count), request.likely_reply()) for request in asked.values()]
    read, written = sum(pair[0] for pair in tokens), sum(pair[1] for pair in tokens)
    examples: dict[str, str] = {}
    for request in asked.values():
        examples.setdefault(request.purpose, "\n\n".join(message.content for message in request.prompt.messages))
    return Estimate(
        prompts=len(asked),
        replayed=replayed,
        prompt_tokens=read,
        completion_tokens=written,
        likely=price((read, written), config),
        most=sum(price(request.most_tokens(count), config) for request in asked.values()),
        examples=examples,
    )
