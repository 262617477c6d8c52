"""Ollama's routes, as its clients speak them: ``/api/generate``, ``/api/chat``, ``/api/tags``.

The forms are those of Ollama's API reference. As there, an answer is streamed (JSON lines) unless
the request says ``"stream": false``. A request without a picture and without words loads a model
there; here every model is loaded already, and the answer says so.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from showtell.server.chat import About, Chat, Question, Reply, words_of
from showtell.server.connections import unless_gone
from showtell.server.description import OllamaError, json_body, problems, streamed
from showtell.server.limits import client_of_request
from showtell.server.problems import Problem
from showtell.version import __version__

UNDERSTOOD_TOO = frozenset({"keep_alive"})
"""What asks for something that is so anyway: models stay loaded."""


class Generate(BaseModel):
    """A request for an answer; further parameters are ignored, and named in the answer."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(default=None, description="One of `/api/tags`; default: the first.")
    prompt: str | None = Field(default=None, description="Words for models that take some.")
    system: str | None = Field(default=None, description="Words for models that take some.")
    images: list[str] | None = Field(default=None, description="Pictures in base64.")
    stream: bool | None = Field(default=None, description="Answer in JSON lines; default: true.")
    format: Literal["json", ""] | dict[str, Any] | None = Field(
        default=None, description='`json`: the answer is `{"caption": ...}`.'
    )
    logprobs: bool | None = Field(default=None, description="Add the words' log-probabilities.")


class ChatMessages(BaseModel):
    """A request for an answer to a conversation."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(default=None, description="One of `/api/tags`; default: the first.")
    messages: list[dict[str, Any]] | None = Field(
        default=None, description="The last message that has `images`, in base64, is answered."
    )
    stream: bool | None = Field(default=None, description="Answer in JSON lines; default: true.")
    format: Literal["json", ""] | dict[str, Any] | None = Field(
        default=None, description='`json`: the answer is `{"caption": ...}`.'
    )
    logprobs: bool | None = Field(default=None, description="Add the words' log-probabilities.")


class Show(BaseModel):
    """A request about a model."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(default=None, description="One of `/api/tags`.")
    name: str | None = Field(default=None, description="The same, as older clients have it.")


class Done(BaseModel):
    """What every answer has."""

    model: str
    created_at: str
    done: bool
    done_reason: str
    total_duration: int | None = Field(default=None, description="In nanoseconds.")
    eval_count: int | None = Field(default=None, description="Words, and an end of each caption.")
    logprobs: list[dict[str, Any]] | None = Field(default=None, description="If asked for.")
    showtell: About | None = None


class Generated(Done):
    """An answer."""

    response: str


class Answered(Done):
    """An answer in a conversation."""

    message: dict[str, Any]


class Tags(BaseModel):
    """The loaded models."""

    models: list[dict[str, Any]]


class Version(BaseModel):
    """The server's version, which is showtell's."""

    version: str


def add_routes(app: FastAPI, chat: Chat) -> None:
    """The routes of Ollama's API that captions can answer."""
    statuses = streamed(
        "application/x-ndjson", problems(400, 403, 404, 408, 413, 415, 422, 500, form=OllamaError)
    )
    of_any = problems(form=OllamaError)

    @app.post(
        "/api/generate",
        response_model=Generated,
        responses=statuses,
        openapi_extra=json_body(Generate),
    )
    async def generate(request: Request) -> Response:
        """Caption pictures, as Ollama's clients ask for it.

        A small captioner does not follow a prompt; `showtell.prompt_followed` in the answer says
        whether the model was given it. Unless `stream` is false, the answer is JSON lines.
        """
        return await _answered(request, chat, Generate)

    @app.post(
        "/api/chat",
        response_model=Answered,
        responses=statuses,
        openapi_extra=json_body(ChatMessages),
    )
    async def converse(request: Request) -> Response:
        """Caption the pictures of a conversation, as Ollama's clients ask for it."""
        return await _answered(request, chat, ChatMessages)

    @app.get("/api/tags", response_model=Tags, responses=of_any)
    async def tags() -> Response:
        """The loaded models, as Ollama's clients ask for them."""
        return JSONResponse({"models": await chat.service.aside(lambda: _tags(chat))})

    @app.get("/api/ps", response_model=Tags, responses=of_any)
    async def running() -> Response:
        """The loaded models once more: all of them are running."""
        return JSONResponse({"models": await chat.service.aside(lambda: _tags(chat))})

    @app.get("/api/version", response_model=Version, responses=of_any)
    async def version() -> Response:
        """The server's version, which is showtell's."""
        return JSONResponse({"version": __version__})

    @app.post(
        "/api/show",
        response_model=dict[str, Any],
        responses=problems(400, 403, 404, 408, 413, 500, form=OllamaError),
        openapi_extra=json_body(Show),
    )
    async def show(request: Request) -> Response:
        """What a model is and can do, as Ollama's clients ask for it."""
        async with chat.asked(request, client_of_request(request), Show) as (asked, _):
            name = chat.model_named(asked.model or asked.name or "")
        return JSONResponse(await chat.service.aside(lambda: _shown(chat, name)))


async def _answered(
    request: Request, chat: Chat, kind: type[Generate] | type[ChatMessages]
) -> Response:
    client = client_of_request(request)
    started = time.perf_counter_ns()
    async with chat.asked(request, client, kind) as (asked, count):
        question = _question(asked)
        is_chat = isinstance(asked, ChatMessages)
        if question is None:
            loaded = _record(chat.model_named(asked.model or ""), "", is_chat=is_chat)
            return JSONResponse({**loaded, "done": True, "done_reason": "load"})
        reply = await unless_gone(request, chat.reply(question, client, count))
    text = reply.texts[0]
    if asked.format == "json":
        text = json.dumps({"caption": text}, ensure_ascii=False)
    end = _end(reply, time.perf_counter_ns() - started)
    if asked.logprobs:
        end["logprobs"] = reply.tokens(0)
    if asked.stream is False:
        return JSONResponse({**_record(reply.model, text, is_chat=is_chat), **end})
    lines = [_record(reply.model, piece, is_chat=is_chat) for piece in words_of(text)]
    lines = [{**line, "done": False} for line in lines]
    lines.append({**_record(reply.model, "", is_chat=is_chat), **end})
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return Response(content, media_type="application/x-ndjson")


def _question(asked: Generate | ChatMessages) -> Question | None:
    """What is asked; None where a model is only to be loaded.

    Raises:
        Problem: 400, a message has not the form that it should have.
    """
    if isinstance(asked.format, dict):
        raise Problem(400, "format: this captioner cannot follow a JSON schema; ask for text")
    ignored = sorted({*(asked.model_extra or ())} - UNDERSTOOD_TOO)
    question = Question(asked.model or "", ignored=ignored)
    if isinstance(asked, Generate):
        question.pictures = list(asked.images or ())
        question.prompt = "\n\n".join(filter(None, (asked.system, asked.prompt)))
        return question if question.pictures or question.prompt else None
    if not asked.messages:
        return None
    system = [str(m.get("content") or "") for m in asked.messages if m.get("role") == "system"]
    for message in reversed(asked.messages):
        if pictures := list(_pictures(message)):
            question.pictures = pictures
            said = str(message.get("content") or "")
            question.prompt = "\n\n".join(filter(None, (*system, said)))
            break
    return question


def _pictures(message: dict[str, Any]) -> Iterator[str]:
    images = message.get("images")
    for image in images if isinstance(images, list) else ():
        if not isinstance(image, str):
            raise Problem(400, "messages: images are texts in base64")
        yield image


def _record(model: str, text: str, *, is_chat: bool) -> dict[str, Any]:
    said = {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}
    return {"model": model, "created_at": _now(), **said}


def _end(reply: Reply, nanoseconds: int) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "stop",
        "total_duration": nanoseconds,
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": 0,
        "eval_count": reply.num_tokens,
        "eval_duration": nanoseconds,
        "showtell": reply.about(),
    }


def _now() -> str:
    return _time(time.time())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _details(chat: Chat, name: str) -> dict[str, Any]:
    captioner = chat.service.models[name].captioner
    num = captioner.card.num_parameters or 0
    return {
        "parent_model": "",
        "format": "showtell",
        "family": captioner.decoder_kind,
        "families": [captioner.decoder_kind],
        "parameter_size": f"{num / 1e6:.1f}M",
        "quantization_level": "",
    }


def _tags(chat: Chat) -> list[dict[str, Any]]:
    listed = []
    for name, model in chat.service.models.items():
        full = name if ":" in name else f"{name}:latest"
        digest = hashlib.sha256(model.captioner.fingerprint.encode()).hexdigest()
        listed.append(
            {
                "name": full,
                "model": full,
                "modified_at": _time(chat.service.started),
                "size": 4 * (model.captioner.card.num_parameters or 0),
                "digest": digest,
                "details": _details(chat, name),
            }
        )
    return listed


def _shown(chat: Chat, name: str) -> dict[str, Any]:
    captioner = chat.service.models[name].captioner
    return {
        "license": captioner.card.licence or "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(chat, name),
        "model_info": {
            "general.architecture": captioner.decoder_kind,
            "general.parameter_count": captioner.card.num_parameters or 0,
        },
        "capabilities": ["completion", "vision"],
    }
