"""The routes: what can be asked of the server, and how each answer is described."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from showtell import __version__
from showtell.features.images import Preprocessing
from showtell.server.problems import Problem
from showtell.server.schemas import Captions, Health, Models
from showtell.server.service import FIELDS, FILES, Service
from showtell.server.upload import read_form

PAGE = Path(__file__).parent / "page"


def create_app(service: Service) -> FastAPI:
    """The web app over a service, which ends with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="showtell",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)

    @app.post("/v1/captions", response_model=Captions)
    async def captions(request: Request) -> Response:
        """Caption pictures."""
        form = await read_form(
            request.headers.get("content-type"),
            request.stream(),
            service.limits,
            files=FILES,
            fields=FIELDS,
        )
        return JSONResponse(await service.caption(form))

    @app.get("/v1/models", response_model=Models)
    async def models() -> Response:
        """The loaded models."""
        return JSONResponse({"models": _models(service)})

    @app.get("/healthz", response_model=Health)
    async def health() -> Response:
        """Whether the server is there."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=Health)
    async def ready() -> Response:
        """Whether captions can be asked for."""
        if not service.batcher.is_alive:
            raise Problem(503, "the server is stopping")
        return JSONResponse({"status": "ok"})

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def _models(service: Service) -> list[dict[str, Any]]:
    return [
        {
            "name": model.name,
            "decoder": model.captioner.config.decoder.kind,
            "encoder": model.captioner.config.encoder.name,
            "attends": model.attends,
            "default": index == 0,
            "decoding": model.captioner.config.decoding.model_dump(mode="json"),
            "crop": _crop(model.captioner.encoder.preprocessing),
        }
        for index, model in enumerate(service.models.values())
    ]


def _crop(recipe: Preprocessing) -> float | None:
    return None if recipe.squash else recipe.crop


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, error.detail, headers=error.headers).response()
