"""Requests made up from our own OpenAPI description find no crash, no undocumented status and no shape that it denies."""

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from llm_engineering.domain.config import ServiceConfig
from llm_engineering.serving.app import create_app
from tests.doubles.twin_service import FakeTwin

app = create_app(FakeTwin().service(), config=ServiceConfig(burst=1_000_000, per_minute=1e9, max_body_bytes=50_000_000))


async def from_this_machine(scope, receive, send):
    if scope["type"] == "http":
        headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope = scope | {"client": ("127.0.0.1", 1), "headers": [*headers, (b"host", b"localhost")]}
    await app(scope, receive, send)


schema = schemathesis.openapi.from_asgi("/openapi.json", from_this_machine)


# whether a conversation ends with a question of the user is more than a JSON schema can say
MORE_THAN_A_SCHEMA = {"/v1/chat/completions": [positive_data_acceptance]}


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_description_says_holds(case):
    case.call_and_validate(excluded_checks=MORE_THAN_A_SCHEMA.get(case.path, []))
