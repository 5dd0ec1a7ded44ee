"""The table of operations as an OpenAPI 3.1 description (https://spec.openapis.org/oas/v3.1.1.html)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rxtasks.control.named import NAMED, ref
from rxtasks.control.words import Operation, Parameter

__all__ = ["describe"]

#: Refusals that any operation may answer with.
_ANY: Final = {
    400: "That is no request, or its body is no JSON.",
    401: "By TCP: the token is missing or wrong.",
    403: "The request comes from another origin.",
    405: "The path takes other methods.",
    408: "The request has not come within its time.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    421: "By TCP: the server is not called so.",
    422: "A parameter or the body is not as described.",
    431: "The headers are too large.",
    500: "A bug.",
    503: "The pool or its store cannot now, or too many requests wait; see Retry-After.",
    504: "The pool has not answered in time.",
}


def describe(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """Return the description of these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rxtasks control API",
            "version": version,
            "description": "What an operator's commands ask of a pool that runs. Served on a Unix socket for the user who"
            " runs it, and by TCP with a token where that is configured.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(NAMED),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "By TCP only."}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.method == "POST":
        schema = operation.body or {"type": "object", "additionalProperties": False}
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": schema}},
        }
    answers: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        answers[str(status)] = {"description": "Done." if status < 300 else "Not well."}
        content = {operation.media_type: {"schema": _body_of(operation) if answer is None else answer}}
        if status != 204:
            answers[str(status)]["content"] = content
    for status, text in {**_ANY, **operation.refusals}.items():
        if str(status) not in answers:
            answers[str(status)] = _refusal(text)
        elif operation.answers[status] is not None and status >= 400:
            either = {"anyOf": [operation.answers[status], ref("Error")]}
            answers[str(status)]["content"] = {"application/json": {"schema": either}}
    described["responses"] = dict(sorted(answers.items()))
    return described


def _body_of(operation: Operation) -> dict[str, Any]:
    """Return the schema of a body that is no JSON."""
    if operation.media_type != "text/event-stream":
        return {"type": "string"}
    # Without a type: some readers take it for that of the whole, others for that of each event.
    return {"description": "Server-sent events, each with its `id`, its kind as `event`, and its `data` as JSON."}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": ref("Error")}}}
