"""The OpenAPI document is valid, complete, and true: calls made from it never get a 5xx nor an answer it does not name."""

from __future__ import annotations

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import APIOperation, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from services.gateway.app import CALLS
from tests.support.door import OPERATOR, Door


@schemathesis.serializer("application/x-ndjson")
def _lines(_: object, value: object) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


def test_it_is_openapi_31_with_every_call_and_schemas_that_are_schemas(door: Door) -> None:
    document = door.get("/openapi.json", key=None).json
    assert document["openapi"].startswith("3.1")
    served = {(one.method.lower(), one.path) for one in CALLS if not one.internal}
    assert {(method, path) for path, methods in document["paths"].items() for method in methods} == served
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert name
    text = door.get("/openapi.json", key=None).body.decode()
    for part in text.split('"$ref":"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in document["components"]["schemas"]


def test_the_page_of_the_docs_needs_no_key(door: Door) -> None:
    assert door.get("/docs", key=None).headers["content-type"].startswith("text/html")


@pytest.mark.timeout(600)
def test_calls_made_from_it_are_answered_as_it_says(door: Door) -> None:
    schema = schemathesis.openapi.from_url(f"{door.url}/openapi.json")
    calls = [one.ok() for one in schema.get_all_operations()]
    assert len(calls) >= 12
    for one in calls:
        if one.path != "/metrics" and not one.path.startswith("/a/") and "stream" not in one.path:  # JSON, with an end
            for mode in GenerationMode:
                _call_many_times(door, one, mode)
    door.settle()
    assert door.scalar("select count(*) from ledger.agenda where quarantined_at is not null") == 0


def _call_many_times(door: Door, operation: APIOperation, mode: GenerationMode) -> None:
    @settings(
        max_examples=8,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def answered(case: schemathesis.Case) -> None:
        response = case.call(base_url=door.url, headers={"Authorization": f"Bearer {OPERATOR}"}, timeout=20)
        assert response.status_code < 500, (case.formatted_path, case.body, response.text)
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"], response.headers
        case.validate_response(response, checks=[not_a_server_error, status_code_conformance, content_type_conformance])

    with suppress(Unsatisfiable):  # there is no bad input for a call that takes none
        answered()
