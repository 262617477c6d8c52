"""The routes: what can be asked of the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from showtell.server import ollama_api, openai_api
from showtell.server.chat import Chat, Clients
from showtell.server.connections import Access, Guard, unless_gone
from showtell.server.description import (
    Captions,
    Description,
    Health,
    Models,
    captions_body,
    problems,
)
from showtell.server.limits import client_of_request
from showtell.server.metrics import GONE, Metrics, Observer
from showtell.server.problems import Problem, busy, stopping
from showtell.server.service import FIELDS, FILES, Service
from showtell.server.uploads import MAX_NAME, Intake
from showtell.version import __version__

PAGE = Path(__file__).parent / "page"


def create_app(
    service: Service, metrics: Metrics, access: Access, clients: Clients | None = None
) -> ASGIApp:
    """The routes over a service, behind the guard; every request is counted."""
    app: ASGIApp = Guard(create_api(service, metrics, access, clients), access)
    if access.origins:
        app = CORSMiddleware(
            app,
            allow_origins=access.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization"],
            expose_headers=["Retry-After"],
        )
    return Observer(app, metrics)


def create_api(
    service: Service, metrics: Metrics, access: Access, clients: Clients | None = None
) -> FastAPI:
    """The routes over a service, which starts and ends with them."""
    batcher = service.batcher
    intake = Intake(service.limits, files=FILES, fields=FIELDS)
    metrics.gauge(
        "showtell_pictures_queued", "Pictures that wait for a batch.", lambda: batcher.queued
    )
    metrics.gauge(
        "showtell_pictures_waiting", "Pictures not answered yet.", lambda: batcher.waiting
    )
    metrics.gauge(
        "showtell_upload_bytes", "Bytes of uploads in memory.", lambda: intake.bytes.taken
    )

    chat = Chat(service, intake, clients or Clients())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        chat.stop()
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="showtell",
        summary="Captions of pictures.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    description = Description(app, needs_token=access.token is not None)
    app.openapi = description  # type: ignore[method-assign]
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _bug)
    _add_captions(app, service, intake)
    openai_api.add_routes(app, chat)
    ollama_api.add_routes(app, chat)
    _add_health(app, service, metrics)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def _add_captions(app: FastAPI, service: Service, intake: Intake) -> None:
    """The routes of our own API."""
    batcher = service.batcher

    @app.post(
        "/v1/captions",
        response_model=Captions,
        responses=problems(400, 403, 408, 413, 415, 422, 500),
        openapi_extra=captions_body(service.limits),
    )
    async def captions(request: Request) -> Response:
        """Caption pictures.

        A picture of several that cannot be captioned has an `error` in its place; where none can,
        that is the answer's status.
        """
        if batcher.waiting >= batcher.max_waiting:
            raise busy("the queue is full; try again in a second")
        client = client_of_request(request)
        async with intake.form(request, client) as form:
            answer = await unless_gone(request, service.caption(form, client))
            return Response(answer, media_type="application/json")

    @app.get("/v1/models", response_model=Models, responses=problems())
    async def models() -> Response:
        """The loaded models, the default first; for OpenAI's clients once more as `data`."""
        listed = [openai_api.model_of(name, service.started) for name in service.models]
        answer = {"models": service.describe_models(), "object": "list", "data": listed}
        return JSONResponse(answer)


def _add_health(app: FastAPI, service: Service, metrics: Metrics) -> None:
    """The routes for whoever runs the server."""

    @app.get("/healthz", response_model=Health, responses=problems())
    async def health() -> Response:
        """Whether the server is there."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=Health, responses=problems())
    async def ready() -> Response:
        """Whether captions can be asked for."""
        if not service.batcher.is_alive:
            raise stopping()
        return JSONResponse({"status": "ok"})

    @app.get(
        "/metrics",
        response_class=Response,
        responses=problems() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def exposition() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.url.path)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, detail = request.url.path, error.detail
    if error.status_code == 404:
        routes = ", ".join(_routes(request.app))
        detail = f"there is nothing at {path[:MAX_NAME]}; expected one of {routes}"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.method} {path}: expected {allowed}"
    return Problem(error.status_code, detail, headers=error.headers).response(path)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)  # nobody reads it, but it is counted


def _routes(app: FastAPI) -> list[str]:
    """What can be asked for, as "POST /v1/captions"."""
    found = [route for route in app.routes if isinstance(route, Route)]
    return [
        f"{method} {route.path_format}"
        for route in found
        for method in sorted(route.methods or ())
        if method != "HEAD"
    ]


async def _bug(request: Request, error: Exception) -> Response:
    return Problem(500, "an unexpected error; see the server's log").response(request.url.path)
