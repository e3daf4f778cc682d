"""What went wrong at a chat endpoint, in our words: where, what, what to do, and whether trying again may help."""

import re
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import openai

from llm_engineering.domain.errors import ModelError, ModelReplyInvalid, ModelUnavailable, PromptTooLong, UsageError

_OPENAI = "https://api.openai.com/v1"
_BUSY = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({400, 413, 422})
_SHOWN = 300
"""Characters of a server's own words that a message quotes."""
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|size|window)|prompt is too long|too many tokens", re.I
)
_FILTERED = ("content_filter", "content_policy_violation")
_FILTERS = frozenset({400, 403, 422})
_OUT_OF_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


@dataclass(frozen=True)
class Endpoint:
    """Where the model is and what opens it. Neither its text form nor any message that it makes holds the key."""

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, base_url: str, model: str, api_key: str | None) -> "Endpoint":
        """Check address and key; an empty address is OpenAI's own."""
        url = base_url.strip().rstrip("/") or _OPENAI
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"LLM_BASE_URL is no web address: {_without_login(url)!r}",
                hint="It looks like http://127.0.0.1:8000/v1.",
            )
        if parts.username or parts.password:
            raise UsageError(
                "LLM_BASE_URL holds a login, which would show in logs", hint="Put the secret into LLM_API_KEY."
            )
        if not model.strip():
            raise UsageError("No chat model is named", hint="Set LLM_MODEL to a model of the endpoint.")
        key = (api_key or "").strip() or None
        if key and not re.fullmatch(r"[!-~]+", key):
            raise UsageError(
                "LLM_API_KEY holds spaces, line breaks or letters that no header can carry", hint="Copy it again."
            )
        return cls(url, model.strip(), key)

    @property
    def is_openai(self) -> bool:
        """It is the vendor's own service."""
        return urlsplit(self.url).hostname == urlsplit(_OPENAI).hostname

    def quoted(self, said: object) -> str:
        """The server's own words (of a JSON error, never of a web page): one line, shortened, without the key."""
        if isinstance(said, dict):
            said = said.get("message") or said.get("detail") or said.get("error") or ""
        words = " ".join(str(said or "").split())
        if not words or words.startswith("<"):
            return ""
        if self.api_key:
            words = words.replace(self.api_key, "***")
        return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"

    def failure(self, error: openai.OpenAIError) -> ModelError:
        """Our error for one of the client's. What a content filter refuses is that prompt's failure, not the server's."""
        if is_filtered(error):
            return ModelReplyInvalid(
                f"{self.url}: its content filter refuses what {self.model!r} is asked{_colon(self._said(error))}",
                hint="Ask in other words.",
            )
        if isinstance(error, openai.APIStatusError):
            return self._refusal(error)
        if isinstance(error, openai.APITimeoutError):
            return ModelUnavailable(f"{self.url} takes no connection", hint="Is it running? See LLM_BASE_URL.")
        if isinstance(error, openai.APIConnectionError):
            return ModelUnavailable(
                f"{self.url} cannot be reached{_colon(self.quoted(error.__cause__))}",
                hint="Is it running? See LLM_BASE_URL.",
            )
        return ModelUnavailable(f"{self.url} failed{_colon(self._said(error))}", hint="Look at its log.")

    def cause(self, error: Exception) -> Exception | None:
        """The error to name as the cause; ``None`` if its text repeats the key."""
        return None if self.api_key and self.api_key in str(error) else error

    def _said(self, error: openai.OpenAIError) -> str:
        return self.quoted(error.body if isinstance(error, openai.APIError) and error.body else error)

    def _refusal(self, error: openai.APIStatusError) -> ModelError:
        status, said = error.status_code, _colon(self.quoted(error.body))
        if status in (401, 403):
            wish = "refuses the API key" if self.api_key else "wants an API key"
            return ModelUnavailable(f"{self.url} {wish} ({status}){said}", hint="Set LLM_API_KEY to a valid one.")
        if status == 404:
            return ModelUnavailable(
                f"{self.url} has no model {self.model!r} or no such path (404){said}",
                hint="Check LLM_MODEL, and LLM_BASE_URL, which usually ends in /v1.",
            )
        if is_too_long(error):
            return PromptTooLong(
                f"The prompt is too long for {self.model!r} at {self.url} ({status}){said}",
                hint="Lower context_tokens or sampling.max_tokens, or take a model with a longer window.",
            )
        if error.code in _OUT_OF_MONEY:
            return ModelUnavailable(f"{self.url}: the quota is used up ({status}){said}", hint="See the account there.")
        if status == 429:
            return ModelUnavailable(
                f"{self.url} takes no more requests now (429){said}",
                hint="Try later, or lower chat.concurrency.",
                retry_after=retry_after(error),
                reason="rate-limited",
            )
        if status >= 500:
            return ModelUnavailable(
                f"{self.url} failed ({status}){said}", hint="Look at its log.", retry_after=retry_after(error)
            )
        return ModelUnavailable(f"{self.url} refused the request ({status}){said}", hint="Look at its log.")


def is_passing(error: openai.OpenAIError) -> bool:
    """Trying again may help: no connection, too many requests, or a failure inside the server."""
    if isinstance(error, openai.APIStatusError):
        busy = error.status_code in _BUSY or (error.status_code >= 500 and error.status_code != 501)
        return busy and error.code not in _OUT_OF_MONEY
    return isinstance(error, openai.APIConnectionError)


def retry_after(error: openai.OpenAIError) -> float | None:
    """Seconds that the server asks us to wait, from ``Retry-After`` as seconds or as a date; never negative."""
    if not isinstance(error, openai.APIStatusError):
        return None
    value = error.response.headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def is_too_long(error: openai.APIStatusError) -> bool:
    """The server refuses because prompt and reply do not fit the model's window."""
    return error.status_code in _REFUSED and bool(_TOO_LONG.search(f"{error.code} {error.message}"))


def is_filtered(error: openai.OpenAIError) -> bool:
    """The server's content filter refuses this prompt, or the reply in the midst of its stream; another one may pass."""
    if not isinstance(error, openai.APIError):
        return False
    refuses = not isinstance(error, openai.APIStatusError) or error.status_code in _FILTERS
    return refuses and (error.code in _FILTERED or error.type in _FILTERED)


def _colon(words: str) -> str:
    return f": {words}" if words else ""


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", url)
