"""Refusals and faults in the form of OpenAI's interface: `{"error": {message, type, param, code}}`."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from client.serving.engine import BusyError
from client.serving.models import UnknownModelError
from common.errors import FedloraError
from common.log_format import bounded


class ApiError(FedloraError):
    """A request that is refused: its HTTP status, and the field that is at fault."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


class ComputationError(FedloraError):
    """A text that could not be computed, by no fault of the one who asked."""


_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "model_not_found",
    408: "timeout",
    413: "request_too_large",
    422: "malformed_request",
    429: "too_many_requests",
}


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": bounded(message), "type": kind, "param": param, "code": _CODES.get(status)}}


def error_answer(error: Exception) -> JSONResponse:
    """Return the answer to a request that ended in this error; what is not ours tells nothing about the server."""
    status, message, param = _describe(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(error_body(status, message, param), status, headers)


def _describe(error: Exception) -> tuple[int, str, str | None]:
    match error:
        case ApiError():
            return error.status, str(error), error.param
        case UnknownModelError():
            return 404, str(error), "model"
        case BusyError():
            return 429, str(error), None
        case ValidationError():
            return 422, *_first_fault(error)
        case HTTPException():
            return error.status_code, f"{error.detail}; see docs/serving.md for what is served", None
        case ComputationError():
            return 500, str(error), None
        case FedloraError():
            return 400, str(error), None
    return 500, "the server failed; its log has the reason", None


def _first_fault(error: ValidationError) -> tuple[str, str | None]:
    """Return the text and the field of the first fault; the value, which may be large, is not repeated."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(map(str, first["loc"])) or None
    more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{param or 'the body'}: {first['msg']}{more}", param


def add_error_answers(app: FastAPI) -> None:
    """Let all errors of an application have this form."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return error_answer(error)

    for kind in (FedloraError, ValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
