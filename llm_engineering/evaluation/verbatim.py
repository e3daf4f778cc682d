"""Which runs of words stand in other texts, in time that grows with the texts' length alone.

A suffix automaton (Blumer et al., 1985) over the short side, the outputs, reads the long side once, word by word: the training
text is streamed and never kept.
"""

from collections.abc import Iterable, Sequence

from llm_engineering.domain.entities import Frozen

Words = Sequence[str]


class Run(Frozen):
    """The longest run of words of a text that stands in a source: words ``[end - length:end)`` of the text."""

    length: int
    end: int
    source: str


class Matches(Frozen):
    """For each word of a text: how many words up to and with it stand in one source, as one run; and in which."""

    lengths: tuple[int, ...]
    sources: tuple[str, ...]

    @property
    def longest(self) -> Run | None:
        """The first of the longest runs; ``None`` where no word is known."""
        length = max(self.lengths, default=0)
        if not length:
            return None
        place = self.lengths.index(length)
        return Run(length=length, end=place + 1, source=self.sources[place])

    def grams(self, size: int) -> tuple[int, int]:
        """How many of the text's runs of ``size`` words stand in a source, and how many it has."""
        ends = self.lengths[size - 1 :]
        return sum(length >= size for length in ends), len(ends)


def matches(texts: Sequence[Words], sources: Iterable[tuple[str, Words]]) -> list[Matches]:
    """What of each text stands in the sources, which are (name, words). A run never crosses from one source to the next."""
    automaton = _Automaton()
    for text in texts:
        automaton.add(text)
    for name, words in sources:
        automaton.read(name, words)
    automaton.settle()
    return [automaton.matches(text) for text in texts]


class _Automaton:
    """States are sets of runs that end at the same places of the texts; the link of a state is its longest shorter run."""

    def __init__(self) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._length, self._link = [0], [-1]
        self._met: list[int] = [0]
        """By state, the longest of its runs that a source was found to have."""
        self._where: list[str] = [""]

    def add(self, words: Words) -> None:
        """Add a text (Blumer's construction, each text begun at the root)."""
        last = 0
        for word in words:
            last = self._extend(last, word)

    def _extend(self, last: int, word: str) -> int:
        known = self._next[last].get(word)
        if known is not None:  # an earlier text has this run
            return known if self._length[known] == self._length[last] + 1 else self._split(last, word, known)
        new = self._state({}, self._length[last] + 1, 0)
        place = last
        while place != -1 and word not in self._next[place]:
            self._next[place][word] = new
            place = self._link[place]
        if place != -1:
            known = self._next[place][word]
            exact = self._length[known] == self._length[place] + 1
            self._link[new] = known if exact else self._split(place, word, known)
        return new

    def _split(self, place: int, word: str, known: int) -> int:
        """Part a state in two: the runs up to one word longer than those of ``place``, and the longer ones."""
        clone = self._state(dict(self._next[known]), self._length[place] + 1, self._link[known])
        self._link[known] = clone
        while place != -1 and self._next[place].get(word) == known:
            self._next[place][word] = clone
            place = self._link[place]
        return clone

    def _state(self, following: dict[str, int], length: int, link: int) -> int:
        self._next.append(following)
        self._length.append(length)
        self._link.append(link)
        self._met.append(0)
        self._where.append("")
        return len(self._next) - 1

    def read(self, name: str, words: Words) -> None:
        """Follow a source, and note at each state the longest run met there."""
        state = length = 0
        for word in words:
            while state and word not in self._next[state]:
                state = self._link[state]
                length = self._length[state]
            following = self._next[state].get(word)
            if following is None:
                state = length = 0
                continue
            state, length = following, length + 1
            if length > self._met[state]:
                self._met[state], self._where[state] = length, name

    def settle(self) -> None:
        """Whatever has a run has its shorter ends; then a state with no run of its own takes its link's."""
        by_length = sorted(range(1, len(self._length)), key=self._length.__getitem__)
        for state in reversed(by_length):
            link = self._link[state]
            if self._met[state] and link and self._met[link] < self._length[link]:
                self._met[link], self._where[link] = self._length[link], self._where[state]
        for state in by_length:
            if not self._met[state]:
                link = self._link[state]
                self._met[state], self._where[state] = self._met[link], self._where[link]

    def matches(self, words: Words) -> Matches:
        """The settled figures of one of the texts."""
        state, lengths, found = 0, [], []
        for word in words:
            state = self._next[state][word]
            lengths.append(self._met[state])
            found.append(self._where[state])
        return Matches(lengths=tuple(lengths), sources=tuple(found))
