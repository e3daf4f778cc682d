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


described = set()


def as_described(path):
    """The test of one path. Each has a name of its own: of tests of one name, a parallel run would run one."""
    described.add(path)

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    def holds(case):
        case.call_and_validate(excluded_checks=MORE_THAN_A_SCHEMA.get(case.path, []))

    return schema.include(path=path).parametrize()(holds)


test_rag_is_as_described = as_described("/rag")
test_search_is_as_described = as_described("/search")
test_chat_is_as_described = as_described("/v1/chat/completions")
test_models_are_as_described = as_described("/v1/models")
test_a_model_is_as_described = as_described("/v1/models/{model}")
test_feedback_is_as_described = as_described("/feedback")
test_passage_is_as_described = as_described("/passage")
test_health_is_as_described = as_described("/health")
test_readiness_is_as_described = as_described("/ready")
test_metrics_are_as_described = as_described("/metrics")


def test_no_path_is_left_out():
    assert described == {operation.ok().path for operation in schema.get_all_operations()}
