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
PATHS = [
    *("/api/chat", "/api/generate", "/api/ps", "/api/show", "/api/tags", "/api/version"),
    *("/healthz", "/metrics", "/readyz"),
    *("/v1/captions", "/v1/chat/completions", "/v1/models", "/v1/models/{name}"),
]
WITH_BODY = (
    *("/api/chat", "/api/generate", "/api/show"),
    *("/v1/captions", "/v1/chat/completions"),
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
    assert len(operations) == len(PATHS)
    statuses = Counter[tuple[str, int]]()
    for operation in operations:
        is_main = operation.path == "/v1/captions"
        if operation.path not in WITH_BODY and mode is GenerationMode.NEGATIVE:
            continue  # it takes nothing that could be wrong

        @given(operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=50 if is_main else 10,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        def ask(case: schemathesis.Case) -> None:
            answer = case.call()
            statuses[case.operation.path, answer.status_code] += 1
            case.validate_response(answer, checks=checks)

        ask()
    assert (("/v1/captions", 200) in statuses) == (mode is GenerationMode.POSITIVE)


def test_every_route_and_status_is_described(server: TinyServer) -> None:
    paths = server.ask("/openapi.json").json["paths"]
    assert sorted(paths) == PATHS
    answers = paths["/v1/captions"]["post"]["responses"]
    assert sorted(answers) == [
        *("200", "400", "401", "403", "408", "413", "415", "421", "422", "429", "500", "503"),
    ]
    for name, path in paths.items():
        for operation in path.values():
            assert operation["description"]
            is_ours = not name.startswith(("/api/", "/v1/chat/", "/v1/models/"))
            for status, answer in operation["responses"].items():
                kinds = [*answer["content"]]
                assert len(kinds) == 1 or int(status) == 200
                is_problem = kinds == ["application/problem+json"]
                assert is_problem == (is_ours and int(status) >= 400), name
    assert server.ask("/docs").status == server.ask("/redoc").status == 404


def test_its_settings_are_the_captioner_s(server: TinyServer) -> None:
    """Every name that it gives is one that the server takes."""
    paths = server.ask("/openapi.json").json["paths"]
    form = paths["/v1/captions"]["post"]["requestBody"]["content"]["multipart/form-data"]
    names = form["schema"]["properties"]["decoding"]["properties"]
    own = server.models["plain"].captioner.config.decoding.model_dump(mode="json")
    assert names.keys() == own.keys()
    assert server.caption(picture(0), decoding=json.dumps(own)).status == 200
