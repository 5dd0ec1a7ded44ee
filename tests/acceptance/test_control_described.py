"""The OpenAPI description says what the control API does: checked by schemathesis and by jsonschema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import one_of
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from rxtasks.control.openapi import describe
from rxtasks.control.table import OPERATIONS
from tests.acceptance.controlled import LONG, Pool, pool

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
#: Streams without an end; and what would leave nothing to be asked.
ELSEWHERE = ["follow_events", "follow_logs", "stop_processing"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pool(tmp_path_factory.mktemp("run"), listen="127.0.0.1:0", token="token", max_queue=10_000) as made:
        for number in range(3):
            made.client.post("/v1/tasks", {"task": "control.add", "args": [number], "task_id": f"task-{number}"})
        yield made


@pytest.fixture(scope="module")
def described(running: Pool) -> Any:
    return schemathesis.openapi.from_url(
        f"http://{running.server.listens}/openapi.json", headers={"Authorization": "Bearer token"}
    )


@pytest.mark.parametrize("name", [one.name for one in OPERATIONS if one.name not in ELSEWHERE])
def test_it_does_what_its_description_says(running: Pool, described: Any, name: str) -> None:
    """C-09: whatever is asked, the answer is one that is described."""
    operation = described.find_operation_by_id(name)
    asked = 0

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    def check(case: schemathesis.Case) -> None:
        nonlocal asked
        case.call_and_validate(checks=CHECKS, headers={"Authorization": "Bearer token"}, timeout=LONG)
        asked += 1

    check()
    assert asked


def test_the_description_is_one_of_openapi() -> None:
    document = describe(OPERATIONS, "1")
    schemathesis.openapi.from_dict(document)
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
    for name, named in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(named), name


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/health", "health"),
        ("/v1/status", "status"),
        ("/v1/workers", "list_workers"),
        ("/v1/tasks", "list_tasks"),
        ("/v1/tasks/task-1", "get_task"),
        ("/v1/tasks/task-1/history", "get_history"),
        ("/v1/tasks/task-1/explain", "explain_task"),
        ("/v1/explain", "explain"),
    ],
)
def test_answers_are_as_described(running: Pool, path: str, operation: str) -> None:
    document = describe(OPERATIONS, "1")
    answer = running.client.get(path)
    for methods in document["paths"].values():
        for method in methods.values():
            if method["operationId"] == operation:
                wanted = method["responses"]["200"]["content"]["application/json"]["schema"]
                jsonschema.Draft202012Validator({**wanted, "components": document["components"]}).validate(answer)
                return
    raise AssertionError(operation)
