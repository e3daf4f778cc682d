"""Secrets and personal data are masked, the rest of a text is not touched, and technical prose and code stay as they are."""

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_engineering.dataset.masking import MASKS, Mask, findings, mask

# Put together here, so that no scanner takes this file for a leak. None of them was ever issued.
RANDOM = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0xR"
SECRETS = {
    "AKIA" + "Z7Q2M4K6R3T5W2XY": Mask.API_KEY,
    "ghp_" + RANDOM + "L2k4": Mask.API_KEY,
    "github_pat_" + RANDOM: Mask.API_KEY,
    "glpat-" + RANDOM[:20]: Mask.API_KEY,
    "sk-" + RANDOM + "Uv2x": Mask.API_KEY,
    "sk-proj-" + RANDOM: Mask.API_KEY,
    "sk-ant-api03-" + RANDOM: Mask.API_KEY,
    "hf_" + RANDOM: Mask.API_KEY,
    "xoxb-" + "123456789012-" + RANDOM: Mask.API_KEY,
    "AIza" + RANDOM + "k2L": Mask.API_KEY,
    "sk_live_" + RANDOM: Mask.API_KEY,
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + RANDOM: Mask.API_KEY,
    "jane.doe+lists@mail.doe.io": Mask.E_MAIL,
    "me@janedoe.io": Mask.E_MAIL,
    "talbot@gmail.com": Mask.E_MAIL,
    "abbot@jane.io": Mask.E_MAIL,
    "your.friend@gmail.com": Mask.E_MAIL,
    "john\\_doe@gmail.com": Mask.E_MAIL,
    "hans@müller.de": Mask.E_MAIL,
    "анна@пример.рф": Mask.E_MAIL,
    "kontakt@x.berlin": Mask.E_MAIL,
    "user@company.finance": Mask.E_MAIL,
    "shop@foo.shop": Mask.E_MAIL,
    "jane [at] doe [dot] com": Mask.E_MAIL,
    "jane [at] doe [dot] studio": Mask.E_MAIL,
    "jane at doe dot com": Mask.E_MAIL,
    "+49 30 901820": Mask.PHONE,
    "+1 (212) 736-5000": Mask.PHONE,
    "(212) 736-5000": Mask.PHONE,
    "212-736-5000": Mask.PHONE,
    "GB29 NWBK 6016 1331 9268 19": Mask.IBAN,
    "DE89370400440532013000": Mask.IBAN,
    "4539 1488 0343 6467": Mask.CARD,
    "4539148803436467": Mask.CARD,
    "3782 822463 10005": Mask.CARD,
}
HARMLESS = [
    "simon@example.com and you@your.test",
    "you@yourdomain.com, your_email@gmail.com, hello@your-company.io, me@gmail.com",
    "dependabot@github.com and ci-bot@jane.io",
    "x@weight.data + y@model.coef_ + h@self.weight_ih + z@layer.bias",
    "systemctl start getty@tty1.service",
    "look at this dot product",
    "git clone git@github.com:someone/project.git",
    "ssh ubuntu@db1.internal.io",
    "scores = q@k.mT + x@w.weight",
    "@app.get('/items') and @pytest.fixture",
    "npm install leaflet@1.5.1 https://deno.land/std@0.113.0/http/server.ts",
    "logo@2x.png",
    "@simon@fedi.simonwillison.net",
    "postgresql://llm_engineering:llm_engineering@127.0.0.1:27017",
    "postgresql://user:${PASSWORD}@db/prod and https://user:<password>@host/",
    "OPENAI_API_KEY=your-api-key-here-1234567890",
    "api_key=settings.COMET_API_KEY_2024_MAIN",
    "api_key = os.environ['OPENAI_API_KEY_V2_PROD']",
    "secret = base64.b64encode(value)",
    "token = tokenizer.decode(token_id, skip_special_tokens=True)",
    "next_token = response.get('NextToken')",
    "password: str = Field(min_length=8)",
    'password = "your-password-123"',
    "password = sha256_crypt",
    "DB_PASSWORD=config.db1.pass2word",
    "DB_PASSWORD: os_env1x2y3('DB')",
    "see the password: Tr0ub4dor3xyz is a word of a comic",
    "secret_key: Users/ann/Projects2/thing/src/main/java/App",
    "sk-estimator-doc-link-toggleable-content",
    "sk-toggleable__content-arrow",
    "commit dae52d5b94761145333867bc6641e821",
    "5a9563fcfff8df9a81fc0cdbf63894465922",
    "550e8400-e29b-41d4-a716-446655440000",
    "status/1246482954630492200 and 1152921500312757159",
    "{'H': 4045142741717613284}",
    "viewBox 0 0 500 100, 37.77292891669105, 6.0000000000000036",
    "2024-07-10 16:48:47 and 192.168.172.31",
    "1 000 000 000 rows, 10-20-30 percent, 555-1234",
    "call it 123456 times",
    "phone number: 123",
    "4539 1488 0343 6468",
    "1111 1111 1111 1111",
    "GB29 NWBK 6016 1331 9268 18",
    "-----BEGIN PUBLIC KEY-----",
    "look for -----BEGIN PRIVATE KEY----- in the file",
    "[e-mail] and [API key]",
]


@pytest.mark.parametrize(("secret", "kind"), SECRETS.items())
def test_a_secret_is_masked_and_the_words_around_it_stay(secret: str, kind: Mask):
    masked = mask(f"Before it ({secret}), after it.")

    assert masked.text == f"Before it ({kind}), after it."
    assert masked.found == Counter({kind.value: 1})


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_secret_stays(text: str):
    assert mask(text).text == text


def test_a_private_key_is_masked_as_one_block():
    body = "\n".join([RANDOM * 2] * 3)
    text = f"My key:\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nKeep it."

    assert mask(text).text == "My key:\n[private key]\nKeep it."


def test_a_private_key_without_an_end_is_masked_to_its_last_line():
    text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{RANDOM}\n{RANDOM}\n\nand so on"

    assert mask(text).text == "[private key]\n\nand so on"


def test_a_named_secret_is_masked_where_its_shape_is_unknown():
    assert mask(f'COHERE_API_KEY="{RANDOM}"').text == 'COHERE_API_KEY="[API key]"'
    assert mask(f"Authorization: Bearer {RANDOM}").text == "Authorization: Bearer [API key]"
    assert mask('password = "tr0ub4dor&3"').text == 'password = "[password]"'


def test_a_secret_access_key_with_slashes_is_no_path():
    key = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYzzPLEKXYKE"
    assert mask(f"aws_secret_access_key = {key}").text == "aws_secret_access_key = [API key]"


@pytest.mark.parametrize(
    "line", ["DB_PASSWORD={}", "POSTGRES_PASSWORD: {}", "  password: {}", "spring.datasource.password={}\nport=1"]
)
@pytest.mark.parametrize("password", ["Tr0ub4dor3xyz", "s3cr3tPa55x"])
def test_an_unquoted_password_is_masked_where_only_a_password_stands(line, password):
    assert mask(line.format(password)).text == line.format("[password]")


def test_an_address_loses_no_mark_that_stands_around_it():
    for around in ("_{}_", "__{}__", "**{}**", "`{}`", "<{}>", "请写信到{}联系我", "_write to {}_"):
        assert mask(around.format("ada@winter.dev")).text == around.format("[e-mail]")


def test_the_password_in_an_address_is_masked_and_the_address_stays():
    assert mask("mongodb://ann:tr0ub4dor@db.acme.io/prod").text == "mongodb://ann:[password]@db.acme.io/prod"


def test_a_mail_link_stays_a_link():
    assert mask("[Write to me](mailto:jane@doe.io).").text == "[Write to me](mailto:[e-mail])."


def test_what_a_mask_frees_is_masked_too():
    key = "AKIA" + "Z7Q2M4K6R3T5W2XY"

    assert mask(f"{key}(212) 736-5000").text == "[API key][phone number]"


def test_a_national_number_needs_a_cue():
    assert mask("Telefon: 030 901820").text == "Telefon: [phone number]"
    assert mask("Row 030 901820 is broken").text == "Row 030 901820 is broken"


PIECES = st.one_of(
    st.sampled_from([*SECRETS, *HARMLESS, *Mask]),
    st.text(st.sampled_from("ab1 2@.+-:/=[]()\"'\n"), max_size=12),
    st.text(max_size=12),
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
@example("password = '[password]'")
@example("a@b.io@c.io")
def test_masking_is_idempotent_and_changes_nothing_but_what_it_masks(text: str):
    masked = mask(text)

    assert mask(masked.text).text == masked.text
    assert is_made_of(masked.text, text)


def is_made_of(masked: str, text: str) -> bool:
    """The pieces between the masks stand in the text in this order, at its two ends."""
    pieces = MASKS.split(masked)
    position = 0
    for piece in pieces:
        found = text.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    return text.startswith(pieces[0]) and text.endswith(pieces[-1])


@settings(deadline=None)
@given(st.lists(PIECES, max_size=8).map(" ".join))
def test_findings_stand_in_order_and_never_overlap(text: str):
    found = findings(text)

    assert all(0 <= one.start < one.end <= len(text) for one in found)
    assert all(one.end <= other.start for one, other in pairwise(found))


@pytest.mark.timeout(60)  # an exponential pattern would take for ever
@pytest.mark.parametrize(
    "unit", ["a@", "1 ", "+1", "sk-", "a.", "a-", "password=", "eyJa.", "-----BEGIN PRIVATE KEY-----", "://a:"]
)
def test_hostile_repetition_comes_to_an_end(unit: str):
    assert mask(unit * (20_000 // len(unit))).text


def test_the_articles_of_the_handbook_hold_nothing_to_mask(data: Path):
    articles = json.loads((data / "handbook_warehouse" / "ArticleDocument.json").read_text(encoding="utf-8"))
    texts = [text for article in articles for text in article["content"].values() if text]

    assert [text[one.start : one.end] for text in texts for one in findings(text)] == []


def test_a_real_authors_notes_lose_their_real_secrets_and_nothing_else(data: Path):
    with gzip.open(data / "til_cdc" / "events.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line).get("text") or "" for line in lines]
    found = {(one.mask, text[one.start : one.end]) for text in texts for one in findings(text)}

    # Read by eye: three access key ids, two e-mail addresses, one telephone number; twelve times as many look-alikes.
    assert Counter(kind for kind, _ in found) == {Mask.API_KEY: 3, Mask.E_MAIL: 2, Mask.PHONE: 1}
    assert all(secret.startswith("AKIA") for kind, secret in found if kind is Mask.API_KEY)
