"""The description, and schemathesis trying to prove it wrong."""

import json
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from tiny_server import TinyServer, picture

schemathesis.openapi.media_type(
    "image/*", st.integers(0, 9).map(picture) | st.sampled_from([b"", b"GIF89a", picture(0)[:50]])
)
DISPROVED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_answer_is_undocumented(server: TinyServer, mode: GenerationMode) -> None:
    """Requests as the description has them, and such as it has not."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    checks = [CHECKS.get_one(name) for name in DISPROVED]
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 5
    statuses = Counter[int]()
    for operation in operations:
        is_main = operation.path == "/v1/captions"
        if not is_main and mode is GenerationMode.NEGATIVE:
            continue  # it takes nothing that could be wrong

        @given(operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=50 if is_main else 5,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        def ask(case: schemathesis.Case) -> None:
            answer = case.call()
            statuses[answer.status_code] += 1
            case.validate_response(answer, checks=checks)

        ask()
    assert (200 in statuses) == (mode is GenerationMode.POSITIVE)


def test_every_route_and_status_is_described(server: TinyServer) -> None:
    paths = server.ask("/openapi.json").json["paths"]
    assert sorted(paths) == ["/healthz", "/metrics", "/readyz", "/v1/captions", "/v1/models"]
    answers = paths["/v1/captions"]["post"]["responses"]
    assert sorted(answers) == [
        *("200", "400", "401", "403", "408", "413", "415", "421", "422", "429", "500", "503"),
    ]
    for path in paths.values():
        for operation in path.values():
            assert operation["description"]
            for status, answer in operation["responses"].items():
                [kind] = answer["content"]
                assert (kind == "application/problem+json") == (int(status) >= 400)
    assert server.ask("/docs").status == server.ask("/redoc").status == 404


def test_its_settings_are_the_captioner_s(server: TinyServer) -> None:
    """Every name that it gives is one that the server takes."""
    paths = server.ask("/openapi.json").json["paths"]
    form = paths["/v1/captions"]["post"]["requestBody"]["content"]["multipart/form-data"]
    names = form["schema"]["properties"]["decoding"]["properties"]
    own = server.models["plain"].captioner.config.decoding.model_dump(mode="json")
    assert names.keys() == own.keys()
    assert server.caption(picture(0), decoding=json.dumps(own)).status == 200
