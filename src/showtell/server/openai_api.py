"""``POST /v1/chat/completions`` as OpenAI's clients speak it: a picture comes, a caption goes back.

The forms are those of OpenAI's API reference ("Create chat completion", "The chat completion chunk
object"). Of a conversation the pictures of the last message that has some are captioned. Words in
it are followed only by models that take a prompt; ``showtell.prompt_followed`` says so. A streamed
answer comes as server-sent events, one a word, though the caption is there at once.
"""

import json
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from showtell.server.chat import About, Chat, Question, Reply, words_of
from showtell.server.connections import unless_gone
from showtell.server.description import (
    OpenAIError,
    OpenAIModel,
    json_body,
    problems,
    streamed,
)
from showtell.server.limits import client_of_request
from showtell.server.problems import Problem


class ChatRequest(BaseModel):
    """A request for a chat completion; further parameters are ignored, and named in the answer."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(default=None, description="One of `/v1/models`; default: the first.")
    messages: list[dict[str, Any]] = Field(
        min_length=1,
        description="The last message with parts of type `image_url` is answered; the address of "
        "each is a data URL in base64.",
    )
    stream: bool | None = Field(default=None, description="Answer in server-sent events.")
    stream_options: dict[str, Any] | None = Field(
        default=None, description="`include_usage`: end with the numbers of tokens."
    )
    n: int | None = Field(default=None, ge=1, description="Captions, best first.")
    logprobs: bool | None = Field(default=None, description="Add the words' log-probabilities.")
    response_format: dict[str, Any] | None = Field(
        default=None, description='`json_object`: the answer is `{"caption": ...}`.'
    )


class Message(BaseModel):
    """What the model says."""

    role: str
    content: str
    refusal: None = None


class Choice(BaseModel):
    """One answer."""

    index: int
    message: Message
    logprobs: dict[str, Any] | None
    finish_reason: str


class Usage(BaseModel):
    """How long the answers are."""

    prompt_tokens: int
    completion_tokens: int = Field(description="Words of all choices, and an end of each.")
    total_tokens: int


class Completion(BaseModel):
    """A chat completion."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    showtell: About


def add_routes(app: FastAPI, chat: Chat) -> None:
    """The routes of OpenAI's API that captions can answer."""

    @app.post(
        "/v1/chat/completions",
        response_model=Completion,
        responses=streamed(
            "text/event-stream", problems(400, 403, 404, 408, 413, 415, 422, 500, form=OpenAIError)
        ),
        openapi_extra=json_body(ChatRequest),
    )
    async def completions(request: Request) -> Response:
        """Caption the pictures of a conversation, as OpenAI's clients ask for it.

        A small captioner does not follow instructions; `showtell.prompt_followed` in the answer
        says whether the model was given the words. With `stream`, the answer is server-sent events.
        """
        client = client_of_request(request)
        async with chat.asked(request, client, ChatRequest) as (asked, count):
            question = question_of(asked)
            reply = await unless_gone(request, chat.reply(question, client, count))
        completion = completion_of(reply, asked)
        if not asked.stream:
            return JSONResponse(completion)
        usage = bool((asked.stream_options or {}).get("include_usage"))
        events = "".join(f"data: {event}\n\n" for event in chunks_of(completion, usage=usage))
        return Response(events, media_type="text/event-stream")

    @app.get(
        "/v1/models/{name:path}",
        response_model=OpenAIModel,
        responses=problems(404, form=OpenAIError),
    )
    async def model(name: str) -> Response:
        """A loaded model, as OpenAI's clients ask for it."""
        return JSONResponse(model_of(chat.model_named(name), chat.service.started))


def model_of(name: str, created: float) -> dict[str, Any]:
    """A model as OpenAI's list has it."""
    return {"id": name, "object": "model", "created": int(created), "owned_by": "showtell"}


def question_of(asked: ChatRequest) -> Question:
    """What a conversation asks.

    Raises:
        Problem: 400, a message has not the form that it should have.
    """
    if (asked.response_format or {}).get("type", "text") not in ("text", "json_object"):
        raise Problem(
            400, "response_format: this captioner cannot follow a JSON schema; ask for text"
        )
    question = Question(
        asked.model or "",
        num_captions=asked.n or 1,
        ignored=sorted(asked.model_extra or ()),
    )
    for message in reversed(asked.messages):
        if pictures := list(_pictures(message.get("content"))):
            question.pictures = pictures
            question.prompt = _words(message.get("content"))
            break
    system = [m for m in asked.messages if m.get("role") in ("system", "developer")]
    instructions = [_words(message.get("content")) for message in system]
    question.prompt = "\n\n".join(filter(None, [*instructions, question.prompt]))
    return question


def _parts(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, list):
        yield from (part for part in content if isinstance(part, dict))


def _pictures(content: Any) -> Iterator[str]:
    for part in _parts(content):
        if part.get("type") not in ("image_url", "input_image"):
            continue
        given = part.get("image_url")
        url = given.get("url") if isinstance(given, dict) else given
        if not isinstance(url, str):
            raise Problem(400, "messages: a part of type image_url has no image_url.url")
        if not url.lower().startswith(("data:", "http://", "https://")):
            raise Problem(
                400, "messages: image_url.url is not a data URL (data:image/jpeg;base64,...)"
            )
        yield url


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in _parts(content) if part.get("text"))


def completion_of(reply: Reply, asked: ChatRequest) -> dict[str, Any]:
    """The answer that is not a stream."""
    as_json = (asked.response_format or {}).get("type") == "json_object"
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": json.dumps({"caption": text}, ensure_ascii=False) if as_json else text,
                "refusal": None,
            },
            "logprobs": {"content": reply.tokens(index), "refusal": None}
            if asked.logprobs
            else None,
            "finish_reason": "stop",
        }
        for index, text in enumerate(reply.texts)
    ]
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": 0,
            "completion_tokens": reply.num_tokens,
            "total_tokens": reply.num_tokens,
        },
        "showtell": reply.about(),
    }


def chunks_of(completion: dict[str, Any], *, usage: bool) -> Iterator[str]:
    """The same answer as the data of events: a role, its words, a reason to end."""
    head = {key: completion[key] for key in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"

    def chunk(
        index: int,
        delta: dict[str, Any],
        reason: str | None,
        logprobs: dict[str, Any] | None = None,
        **more: Any,
    ) -> str:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return json.dumps({**head, "choices": [choice], **more}, ensure_ascii=False)

    for choice in completion["choices"]:
        index, pieces = choice["index"], words_of(choice["message"]["content"])
        yield chunk(index, {"role": "assistant", "content": ""}, None)
        tokens = _tokens_by_piece(pieces, (choice["logprobs"] or {}).get("content", ()))
        for piece, some in zip(pieces, tokens, strict=True):
            logprobs = choice["logprobs"] and {"content": some, "refusal": None}
            yield chunk(index, {"content": piece}, None, logprobs)
        yield chunk(index, {}, choice["finish_reason"], showtell=completion["showtell"])
    if usage:
        yield json.dumps({**head, "choices": [], "usage": completion["usage"]})
    yield "[DONE]"


def _tokens_by_piece(
    pieces: Sequence[str], tokens: Sequence[dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    """For each piece of an answer the tokens that begin in it; the last has all that are left."""
    left, place, end = deque(tokens), 0, 0
    for number, piece in enumerate(pieces, 1):
        some, end = [], end + len(piece)
        while left and (place < end or number == len(pieces)):
            some.append(left.popleft())
            place += len(some[-1]["token"])
        yield some
