"""Key phrases of a passage: the few things that a person would name to say what it is about. From the passage alone."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from llm_engineering.dataset.pieces import word_set
from llm_engineering.dataset.topics import VERBS

_INDENTED = re.compile(r"^(?: {4,}|\t)\S.*$", re.MULTILINE)
_FENCED = re.compile(r"^[ \t]*(`{3,}|~{3,}).*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(
    r"!?\[([^\[\]]*)\]\([^()\s]*(?:\([^()]*\)[^()\s]*)?(?:\s+\"[^\"]*\")?\)|<https?://[^>]*>|https?://\S+"
)
_MARKS = re.compile(r"\*{1,3}|(?<!\w)_{1,3}|_{1,3}(?!\w)|\\(?=[^\w\s])|^#{1,6}\s|^>\s?", re.MULTILINE)


def plain(text: str) -> str:
    """A passage as prose: no code blocks, link targets or marks; compatibility characters unified; paragraphs on lines."""
    text = unicodedata.normalize("NFKC", text)
    text = _FENCED.sub("\n", text)
    text = _INDENTED.sub("\n", text)
    text = _LINK.sub(lambda match: match.group(1) or " ", text)
    text = _MARKS.sub("", text)
    text = re.sub(r"(\w)-\n(?=[a-z])", r"\1-", text)
    return re.sub(r"(?<!\n)\n(?!\n|\s*(?:[-•*]|\d+[.)])\s)", " ", text)


_TOKEN = re.compile(r"`[^`\n]*`|[^\W_][\w.+#/-]*[^\W_]|[^\W_]|[^\w\s]|\n+")
_NAME_IN_CODE = re.compile(r"`[\w.#?@-][^`]{0,38}[\w)\]=]`")
_STOP = word_set(
    """
    vs ready hot current previous interact overall various lots
    a about above across actually after again against all almost along already also although always am among an and
    another any anymore anything are around as at away back be became because become been before behind being below
    best better between both but by can cannot check come could day did different do does doing don done down during
    e each easily either else enough etc even ever every everything example exactly few first following for found
    from fully further general get gets getting give given go goes going gone good got great had has have having he
    hence her here hers him his how however i if in instead into is it its itself just keep kind know known last
    later least less let like likely ll look lot made mainly make makes making many may maybe me mean means might
    mine more most much must my near need needed needs never new next nice no none nor not note nothing now of off
    often ok on once one ones only onto or other others otherwise our ours out over own part per perhaps please
    possible put quite rather re really right s same say see seem seems seen several she should show simple simply
    since so some something sometimes soon still such t take takes than that the their them then there therefore
    these they thing things think this those though through thus time times to today together too took top toward
    two under until up upon us use used useful uses using usually various ve very via want was way ways we week
    weeks well went were what when where whether which while who whole whom whose why will with within without won
    would year years yes yet you your yours yourself including excellent latest great well-known popular famous
    amazing perfect classic basic called based let's it's that's don't you're we're i'm i've you'll we'll there's
    here's can't doesn't isn't what's image author link click article section lesson post blog figure picture code
    case point bit start end work works three four five six seven eight nine ten many main big small high low full
    free entire long short old bad hard easy fast important interesting necessary available able sure specific
    certain particular similar additional multiple single common
    """
)


def _inflected(verb: str) -> tuple[str, ...]:
    stem = verb[:-1] if verb.endswith("e") else verb
    return verb, f"{verb}s", f"{verb}es", f"{stem}ed", f"{stem}ing", f"{verb}{verb[-1]}ing"


_VERBAL = word_set(
    """
    add added allow allows apply ask avoid become begin bring build builds built call choose clean combine compare
    compute consider contain contains convert create created creates define defined depend deploy describe discuss
    download embed ensure evaluate explain explore extract feel fetch find finish fix follow follows generate grow
    handle happen help helps hold implement implemented improve include includes increase install integrate
    introduce involves keep learn leave leverage leverages load loaded loop maximize mention merge minimize move
    obtain offer optimize pass perform pick prefer provide provides quantize query reach read receive recommend
    reduce remember remove replace represent require requires retrieve return returns run runs save search select
    send serve set share solve specify split stay stop store suggest support supports tell test train trained try
    turn understand update visualize wait watch wish wonder worry write written wrote said says told gave bought
    became knew shown revolve simplify simplifies simplified reproduce compete force focus apply applies rely relies
    populate show showed seen look looks tends tend worked working trying doing saying compared related according
    act consist produce annotate yield occur exist appear remain behave differ vary refer correspond respond operate
    connect continue suffer regard decide enter tackle achieve prevent reveal confirm assume propose deliver iterate
    die land sit stand come see conclude want insert towards missing sees comes lean hold
    trigger inherit expect encourage demonstrate outperform exceed preserve retain belong succeed result regarding
    """
)
_VERBAL = _VERBAL | {form for verb in _VERBAL | VERBS for form in _inflected(verb)} - {
    "training",
    "embedding",
    "testing",
    "streaming",
}
_OPENERS = word_set(
    """
    a an the this these those our your my its their his her of with for in between by using via into on from about
    through and or like without toward called as is are
    """
)
_DETERMINERS = word_set("a an the this these those our your my its their his her")
_VAGUE = word_set(
    """
    problem problems model models detail details benefit benefits technique techniques method methods keyword
    keywords result results solution solutions feature features system systems process processes component
    components issue issues approach source sources project projects input inputs output outputs series course
    people person number numbers value values concept concepts idea ideas question questions answer answers section
    sections topic topics function functions
    """
)
_ADVERB = re.compile(r"\w+ly$")


def key_phrases(text: str, *, most: int = 3, avoid: str = "") -> list[str]:
    """At most so many phrases of one to three words, the most telling first; none is part of another or of ``avoid``.

    What stands in bold or code, what is repeated and what has a name counts more. Same text, same phrases.
    """
    prose = plain(text)
    bold = {
        _key(phrase)
        for phrase in re.findall(r"\*\*\s?([^*\n]{3,50}?)\s?:?\s?\*\*", unicodedata.normalize("NFKC", text))
    }
    found: dict[str, _Phrase] = {}
    for place, (phrase, determined) in enumerate(_candidates(prose)):
        if key := _key(phrase):
            found.setdefault(key, _Phrase(phrase, place)).meet(phrase, determined=determined, bold=key in bold)
    chosen: list[_Phrase] = []
    taken = set(_stems(avoid))
    for key, one in sorted(found.items(), key=lambda item: (-item[1].score, item[1].place)):
        stems = set(_stems(key))
        if len(chosen) == most:
            break
        if " " not in key and not _is_name(one.shape) and (one.score < 2.0 or key in _VAGUE or len(key) < 6):
            continue
        if not stems <= taken and not any(stems & set(_stems(other.shape)) for other in chosen):
            chosen.append(one)
    return [one.spoken for one in sorted(chosen, key=lambda each: each.place)]


@dataclass(slots=True)
class _Phrase:
    """A phrase as it was met so far."""

    shape: str
    place: int
    score: float = 0.0
    met: int = 0
    determined: int = 0
    """How often an article or the like stood before it."""

    def meet(self, shape: str, *, determined: bool, bold: bool) -> None:
        words = shape.split()
        weight = (1.0, 1.9, 2.0)[min(len(words), 3) - 1]
        self.score += weight * (1.4 if any(_is_name(word) for word in words) else 1.0) * (2.0 if bold else 1.0)
        self.met += 1
        self.determined += determined
        if sum(map(str.isupper, shape)) < sum(map(str.isupper, self.shape)):
            self.shape = shape

    @property
    def spoken(self) -> str:
        """With the article that the author mostly gives it."""
        return f"the {self.shape}" if 2 * self.determined > self.met else self.shape


def _candidates(prose: str) -> Iterator[tuple[str, bool]]:
    """Runs of content words between stop words and marks that are introduced as a noun phrase is, and names.

    With each, whether an article or the like stands before it.
    """
    run: list[str] = []
    opener = ""
    before = "\n"
    for match in _TOKEN.finditer(prose + "\n"):
        token = match.group()
        folded = token.casefold()
        content = (
            (token[0].isalnum() or bool(_NAME_IN_CODE.fullmatch(token)))
            and folded not in _STOP
            and folded not in _VERBAL
        )
        if content and not _ADVERB.match(folded) and not folded.isdigit():
            if not run:
                opener = before
            run.append(token)
        else:
            if run and not _may_end_in_a_verb(run, folded):
                yield from _phrases(run, opener.casefold(), ends=not token[0].isalnum() or folded in _STOP)
            run = []
            before = token
            continue
        before = token


def _may_end_in_a_verb(run: list[str], following: str) -> bool:
    """``the sync starts by``: a last word in -s that nothing behind it shows to be a plural."""
    last = run[-1]
    plural_or_verb = len(run) > 1 and last.islower() and last.endswith("s") and not last.endswith(("ss", "us", "is"))
    return plural_or_verb and following[0].isalnum() and following not in _AFTER_NOUNS


_AFTER_NOUNS = word_set("of and or are were have that which who can will do did should must may would could")


def _phrases(run: list[str], opener: str, *, ends: bool) -> Iterator[tuple[str, bool]]:
    if not run or not ends or re.match(r"\d[\d.,]*[A-Za-z%]*$", run[0]) or len(run[-1]) == 1:
        return
    determined = opener in _DETERMINERS
    if opener not in _OPENERS:  # it may begin with a verb or end with one: only the name in it is sure
        names = [word for word in run if _is_name(word)]
        if names and len(names[0]) >= 3:
            yield names[0], determined
    elif len(run) <= 3:
        if (run[-1].casefold().endswith("ed") and not _is_name(run[-1])) or (len(run) == 1 and len(run[0]) < 3):
            return
        if len(run) == 1 and len(run[0]) < 4 and not run[0].isupper():
            return
        yield " ".join(run), determined
    elif len(run) in (4, 5):
        yield " ".join(run[-3:]), determined


def _is_name(word: str) -> bool:
    """A capital inside, or code: ``LoRA``, ``PyTorch``, ``GPT-4``, ```dtype```."""
    return word.startswith("`") or any(character.isupper() for character in word[1:])


def _key(phrase: str) -> str:
    return " ".join(phrase.casefold().replace("`", "").strip(" .:").split())


def _stems(phrase: str) -> Iterator[str]:
    for word in re.findall(r"[^\W_]+", phrase.casefold()):
        if word not in _STOP:
            yield word[:-1] if word.endswith("s") and len(word) > 3 else word
