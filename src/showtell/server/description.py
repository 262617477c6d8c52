"""The API as OpenAPI describes it: the answers as models, the form of a request, every status.

The answers are pydantic models, which FastAPI puts into the description. The form of a request for
captions is written out here with the server's limits, since FastAPI itself never reads it.
"""

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from showtell.config import DecodingConfig
from showtell.server.connections import OPEN
from showtell.server.limits import Limits
from showtell.server.problems import COME_BACK, MEDIA_TYPE, OLLAMA_PATH, OPENAI_PATHS
from showtell.server.wishes import EFFORT, NAMING_WORDS


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="A URI for the kind of problem; about:blank: the status says it.")
    title: str = Field(description="The status in words.")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="One line: what was given, what was expected.")


class PictureProblem(BaseModel):
    """A picture that could not be captioned, in its place."""

    index: int = Field(ge=0)
    name: str
    error: ProblemDetails


class PicturesProblem(ProblemDetails):
    """The answer when no picture of several could be captioned."""

    results: list[PictureProblem] | None = None


class Attention(BaseModel):
    """Where the decoder looked."""

    grid: tuple[int, int] = Field(description="Rows and columns.")
    weights: list[list[float]] = Field(
        description="For each word and for the end: a weight for each cell, row by row."
    )


class Said(BaseModel):
    """A caption and how sure the model is of it."""

    caption: str
    confidence: float | None = Field(
        ge=0,
        le=1,
        description="Of a calibrated model the share of such captions that are acceptable, else "
        "the geometric mean of the words' probabilities and the end's; null where a model does not "
        "tell how sure it is.",
    )
    log_prob: float | None = Field(description="Of the whole caption, in nats.")
    words: list[str]
    log_probs: list[float] = Field(
        description="Of each word and of the end, in nats; of a model behind a server without the "
        "end, or empty."
    )
    raw: str | None = Field(
        default=None, description="What the model said, where the caption is a cleaned form of it."
    )
    withheld: str | None = Field(
        default=None,
        description="What the caption would be; it is empty, being below `min_confidence`.",
    )
    attention: Attention | None = None


class PictureCaption(Said):
    """What a model says of one picture of the request."""

    index: int = Field(ge=0, description="The picture's place in the request.")
    name: str = Field(description="Its file name, as the request gave it.")
    alternatives: list[Said] | None = Field(
        default=None, description="The next best, if asked for."
    )


class Captions(BaseModel):
    """The answer to a request for captions."""

    model: str
    results: list[PictureCaption | PictureProblem] = Field(description="In the pictures' order.")


class ModelInfo(BaseModel):
    """A model that the server has loaded."""

    name: str
    decoder: str
    encoder: str
    attends: bool = Field(description="Whether `attention` can be asked for.")
    default: bool = Field(description="Whether it answers where no model is named.")
    decoding: dict[str, Any] = Field(description="Its own decoding settings.")
    calibrated: bool = Field(
        description="Whether `confidence` is the share of such captions that are acceptable."
    )
    crop: float | None = Field(
        description="What it sees: the centre square of this share of the picture's short side; "
        "null: the whole picture."
    )


class OpenAIModel(BaseModel):
    """A model, as OpenAI's clients know it."""

    id: str
    object: Literal["model"]
    created: int = Field(description="When the server was started, in seconds since 1970.")
    owned_by: str


class Models(BaseModel):
    """What there is to choose from, the default first."""

    models: list[ModelInfo]
    object: Literal["list"] = Field(description="For OpenAI's clients, as `data`.")
    data: list[OpenAIModel]


class OpenAIErrorDetails(BaseModel):
    """What went wrong, as OpenAI's clients expect it."""

    message: str = Field(description="One line: what was given, what was expected.")
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """The answer to a request that OpenAI's clients send, when it cannot be served."""

    error: OpenAIErrorDetails


class OllamaError(BaseModel):
    """The answer to a request that Ollama's clients send, when it cannot be served."""

    error: str = Field(description="One line: what was given, what was expected.")


class Health(BaseModel):
    """That the server is there."""

    status: Literal["ok"]


MEANINGS = {
    400: "The body is not what its headers say, or not what the route takes.",
    401: "A bearer token is needed.",
    403: "The request comes from a page of another origin.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "Too many bytes, pixels or pictures.",
    415: "The body is not a multipart form, or a picture has a format that cannot be read.",
    421: "The server does not go by the name that it was asked under.",
    422: "A field or a setting is wrong, or a picture is damaged.",
    429: "Your address has reached a limit: connections, pictures or bytes.",
    500: "A bug.",
    503: "The server is full, no answer came in time, or the server is stopping.",
}
OF_ANY = (401, 421, 429, 503)  # requests
OF_PICTURES = (413, 415, 422)
RETRY_AFTER = {"schema": {"type": "integer"}, "description": "Seconds.", "required": True}
AUTHENTICATE = {"schema": {"type": "string"}, "required": True}

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int, form: type[BaseModel] | None = None) -> Responses:
    """What FastAPI is to say of these statuses, and of those that any request may get.

    Args:
        form: of the answers, where they are not the problems of RFC 9457.
    """
    answers: Responses = {}
    for status in sorted({*statuses, *OF_ANY}):
        model = form or (PicturesProblem if status in OF_PICTURES else ProblemDetails)
        answers[status] = {"description": MEANINGS[status], "model": model}
    for status in COME_BACK:
        answers[status]["headers"] = {"Retry-After": RETRY_AFTER}
    answers[401]["headers"] = {"WWW-Authenticate": AUTHENTICATE}
    return answers


def captions_body(limits: Limits) -> dict[str, Any]:
    """The form of ``POST /v1/captions``; not FastAPI's, which would write files to the disk."""
    properties = {
        "images": {
            "type": "array",
            "minItems": 1,
            "maxItems": limits.pictures,
            "items": {"type": "string", "format": "binary"},
            "description": f"Pictures, up to {limits.picture_bytes:,} bytes and "
            f"{limits.pixels:,} pixels each.",
        },
        "decoding": _decoding_schema(limits),
        "attention": {
            "type": "string",
            "enum": ["true", "false"],
            "description": "Whether to tell where the model looked, if it attends; for "
            f"{limits.attention_captions} captions a request at most.",
        },
        "model": {"type": "string", "description": "One of `/v1/models`; default: the first."},
    }
    schema = {
        "type": "object",
        "required": ["images"],
        "properties": properties,
        "additionalProperties": False,
    }
    form = {
        "schema": schema,
        "encoding": {
            "images": {"contentType": "image/*"},
            "decoding": {"contentType": "application/json"},
        },
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": form}}}


def streamed(kind: str, answers: Responses) -> Responses:
    """The same answers, of which the good one may come as a stream of this media type."""
    content = {kind: {"schema": {"type": "string"}}}
    return {**answers, 200: {"content": content, "description": "The answer, or a stream of it."}}


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """A body in JSON; not FastAPI's, which would read it without the server's limits.

    Args:
        kind: has no models within.
    """
    schema = kind.model_json_schema()
    assert "$defs" not in schema
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def _decoding_schema(limits: Limits) -> dict[str, Any]:
    """Changes of ``DecodingConfig``, within the server's limits."""
    schema = DecodingConfig.model_json_schema()
    for setting in schema["properties"].values():
        setting.pop("default", None)  # it is the model's
        setting.pop("title", None)
    properties = schema["properties"]
    for name in ("beam_size", "num_captions"):
        properties[name]["maximum"] = limits.beam_size
    for name in ("min_length", "max_length"):
        properties[name]["maximum"] = limits.caption_words
    [size, _] = properties["no_repeat_ngram"]["anyOf"]
    size["maximum"] = limits.caption_words
    for name in NAMING_WORDS:
        setting = properties[name]
        setting["maxItems"] = min(limits.named_words, setting.get("maxItems", limits.named_words))
        setting["items"]["maxLength"] = limits.phrase_characters
    schema["description"] = (
        "Changes of the model's own decoding settings. The words that they name have "
        f"{limits.named_characters:,} characters together at most, and the table that a search "
        "needs for them (4 bytes times the words of a caption times 2 to the number of required "
        f"words times the characters of all named words, about) {limits.table_bytes:,} bytes. A "
        f"picture's search costs {limits.search_effort:,} at most: {EFFORT}."
    )
    return schema


class Description:
    """Makes the description when it is first asked for, in place of FastAPI's ``openapi``."""

    def __init__(self, app: FastAPI, *, needs_token: bool) -> None:
        self._app, self._needs_token = app, needs_token

    def __call__(self) -> dict[str, Any]:
        app = self._app
        if app.openapi_schema is None:
            spec = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            for name, path in spec["paths"].items():
                for operation in path.values():
                    if not name.startswith((*OPENAI_PATHS, OLLAMA_PATH)):
                        _say_problems(operation)
            if self._needs_token:
                schemes = {"bearer": {"type": "http", "scheme": "bearer"}}
                spec["components"]["securitySchemes"] = schemes
                for name in spec["paths"].keys() - OPEN:
                    for operation in spec["paths"][name].values():
                        operation["security"] = [{"bearer": []}]
            app.openapi_schema = spec
        return app.openapi_schema


def _say_problems(operation: dict[str, Any]) -> None:
    """FastAPI puts every model under the media type of the route's good answer."""
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            [schema] = answer["content"].values()
            answer["content"] = {MEDIA_TYPE: schema}
