"""Errors of requests, as RFC 9457 ("Problem Details for HTTP APIs") defines them.

Routes that other servers' clients speak to have errors in the form that those know.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

from showtell.data.reading import printable

MEDIA_TYPE = "application/problem+json"
OPENAI_PATHS, OLLAMA_PATH = ("/v1/chat/", "/v1/models/"), "/api/"
COME_BACK = (429, 503)
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class Problem(Exception):
    """A request, or one picture of it, that cannot be served.

    Args:
        status: The HTTP status.
        detail: One line: what was given, what was expected.
        headers: To send with it. A 429 and a 503 always say when to come back (``Retry-After``).
        more: Further members of the answer (RFC 9457, section 3.2).
        code: What OpenAI's clients know this error by.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
        code: str | None = None,
    ) -> None:
        self.status = HTTPStatus(status)
        self.detail = printable(detail)
        self.headers = {"Retry-After": "1"} if status in COME_BACK else {}
        self.headers |= headers or {}
        self.more, self.code = dict(more or {}), code
        super().__init__(self.detail)

    @property
    def details(self) -> dict[str, Any]:
        """The members of the answer. The type says no more than the status does, so it is blank."""
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            **self.more,
        }

    def response(self, path: str = "") -> JSONResponse:
        """The whole answer, in the form that clients of the path expect."""
        if path.startswith(OPENAI_PATHS):
            error = {
                "message": self.detail,
                "type": _OPENAI_TYPES.get(int(self.status), "invalid_request_error"),
                "param": None,
                "code": self.code,
            }
            return JSONResponse({"error": error}, int(self.status), headers=self.headers)
        if path.startswith(OLLAMA_PATH):
            return JSONResponse({"error": self.detail}, int(self.status), headers=self.headers)
        return JSONResponse(
            self.details, int(self.status), headers=self.headers, media_type=MEDIA_TYPE
        )


def busy(detail: str, *, retry_after: int = 1) -> Problem:
    """503: come back in ``retry_after`` seconds."""
    return Problem(503, detail, headers={"Retry-After": str(retry_after)})


def stopping() -> Problem:
    """503: this server takes no more pictures."""
    return busy("the server is stopping", retry_after=5)


def too_many(detail: str, *, retry_after: int = 1) -> Problem:
    """429: this client has as much as one may have; come back in ``retry_after`` seconds."""
    return Problem(429, detail, headers={"Retry-After": str(retry_after)})
