"""Pages that are served like documents but are none: error pages, login and cookie walls, robot checks, parked domains.

Titles are compared as a whole (or one part of ``Text | Site``) and only on pages with few words, beginnings of texts only
on very short pages: an article about error pages has more in its title or more to say.
"""

import re

_SHORT = 80  # words up to which the beginning of the text alone gives a page away
_BARE = re.compile(r"\b(?:404|410|error|fehler|erreur|oops|whoops)\b", re.IGNORECASE)
_BRIEF = 150  # words up to which one part of the title gives it away
_FILLERS = re.compile(
    r"\b(?:404|410|401|403|error|http|status|fehler|erreur|oops|whoops|sorry|uh oh|hmm|the|this|that|a|please)\b"
)

# Reason, most words, whole titles, beginnings of texts: phrases in the folded form that _fold gives, "…" for a few words.
_RULES = (
    (
        "soft-404",
        400,
        "not found; page not found; file not found; post not found; content not found; object not found; page cannot be "
        "found; page can t be found; page could not be found; page does not exist; page doesn t exist; page no longer "
        "exists; page is no longer available; page unavailable; nothing found; nothing was found; nothing here; "
        "seite nicht gefunden; nicht gefunden; page introuvable; page non trouvée; página no encontrada; pagina non "
        "trovata; pagina niet gevonden; página não encontrada; страница не найдена; not found 1",
        "page you … could not be found; page you … can t be found; page you … cannot be found; page you … was not "
        "found; page you … not found; page you … does not exist; page you … doesn t exist; page you … no longer exists; "
        "page you … has been moved; page you … has been removed; page you … isn t available; page not found; page could "
        "not be found; page cannot be found; page can t be found; page does not exist; page doesn t exist; page no "
        "longer exists; post does not exist; requested url … was not found; we can t find … page; we can t seem to "
        "find; we couldn t find … page; we could not find … page; it looks like nothing was found; nothing was found "
        "at; angeforderte seite … nicht; seite wurde nicht gefunden; seite konnte nicht gefunden",
    ),
    (
        "access-denied",
        150,
        "access denied; forbidden; access forbidden; unauthorized; permission denied; access to page has been denied",
        "access denied; you don t have permission; you do not have permission; you don t have access; you do not have "
        "access",
    ),
    (
        "login-wall",
        150,
        "log in; login; sign in; signin; log in to …; sign in to …; log in or sign up; members only; anmelden; "
        "einloggen; connexion; iniciar sesión; accedi",
        "log in to continue; login to continue; sign in to continue; log in to view; sign in to view; sign in to read; "
        "log in to read; you must be logged in; you need to be logged in; you have to be logged in; join to view",
    ),
    (
        "bot-check",
        200,
        "just moment; attention required cloudflare; attention required; checking your browser; are you "
        "human; are you robot; verify you are human; robot check; one more step; ddos guard",
        "checking your browser; checking if site connection is secure; verify you are human; verifying you are human; "
        "verify that you are human; enable javascript and cookies to continue; make sure you are not robot",
    ),
    (
        "parked-domain",
        250,
        "… domain is for sale; … com is for sale; … net is for sale; … org is for sale; … domain for sale; "
        "domain parked; parked domain; … is parked; hugedomains …",
        "buy domain; purchase domain; domain is for sale; domain may be for sale; domain name is for sale; domain is "
        "parked; domain has been registered; domain is available for purchase; inquire about domain; is parked free",
    ),
    (
        "needs-javascript",
        _SHORT,
        "enable javascript; javascript required; javascript is required; javascript is disabled",
        "enable javascript; turn on javascript; requires javascript; javascript is required; javascript is disabled; "
        "javascript is not enabled; javascript disabled",
    ),
    (
        "cookie-wall",
        250,
        "before you continue; before you continue to …; cookie consent; cookie settings; we value your privacy",
        "before you continue; we value your privacy; site uses cookies; website uses cookies; we use cookies; seite "
        "verwendet cookies; we and our partners …",
    ),
)


def _fold(text: str) -> str:
    words = " ".join(re.findall(r"\w+", text.casefold()))
    return " ".join(_FILLERS.sub(" ", words).split())


def _any_of(phrases: str) -> str:
    return "|".join(re.escape(phrase).replace("…", r"\w+(?: \w+){0,7}") for phrase in phrases.split("; "))


_COMPILED = tuple(
    (
        reason,
        words,
        re.compile(_any_of(titles)),
        re.compile(rf"(?:\w+ ){{0,12}}?(?:{_any_of(beginnings)})\b"),
    )
    for reason, words, titles, beginnings in _RULES
)


def why_no_document(title: str, text: str, *, words: int) -> str | None:
    """The reason, as a short stable word, why a page with this title and text is no document; ``None`` if it is one."""
    parts = [title, *re.split(r"\s+[|·•»«–—-]+\s+", title)] if words <= _BRIEF else [title]
    # "Error 404" is nothing but fillers: it folds to the empty text.
    folded = ["not found" if not _fold(part) and _BARE.search(part) else _fold(part) for part in parts]
    beginning = _fold(text[:400])
    for reason, most_words, titles, beginnings in _COMPILED:
        if words <= most_words and any(titles.fullmatch(part) for part in folded):
            return reason
        if words <= min(_SHORT, most_words) and beginnings.match(beginning):
            return reason
    return None if words else "empty"
