"""Invented writers: each has habits of their own and writes about whatever subject is given."""

import random

from llm_engineering.evaluation.prose import StyleText

SUBJECTS = (
    "tomatoes bees soil seeds",
    "sails harbours ropes masts",
    "bread ovens yeast flour",
    "trains rails tickets stations",
)
HABITS = {
    "ada": ("which i think is why", "and so", "but not always", "of course", "in the end", "because of that"),
    "ben": ("you should", "make sure that", "then you can", "if you do not", "after this", "do not forget to"),
    "cyd": ("it is said that", "however", "there was never any", "upon the whole", "it may be", "without which"),
}


def writer(name: str, *, documents: int = 8, words: int = 120, seed: int = 0, prefix: str = "") -> list[StyleText]:
    """Texts in one writer's habits, each about one subject."""
    chance = random.Random(f"{name} {seed}")
    texts = []
    for number in range(documents):
        subject = SUBJECTS[number % len(SUBJECTS)].split()
        said: list[str] = []
        while len(said) < words:
            said += [*chance.choice(HABITS[name]).split(), chance.choice(subject), chance.choice(subject) + "."]
        texts.append(StyleText(document_id=f"{prefix or name}-{number}", text=" ".join(said)))
    return texts
