"""The answers of the API as models, from which the OpenAPI description is made."""

from typing import Any, Literal

from pydantic import BaseModel, Field

Status = Literal[400, 401, 403, 404, 405, 408, 413, 415, 422, 500, 503]


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
    confidence: float = Field(
        ge=0,
        le=1,
        description="Of a calibrated model the share of such captions that are acceptable, else "
        "the geometric mean of the words' probabilities and the end's.",
    )
    log_prob: float = Field(description="Of the whole caption, in nats.")
    words: list[str]
    log_probs: list[float] = Field(description="Of each word and of the end, in nats.")
    withheld: str | None = Field(
        None, description="What the caption would be; it is empty, being below `min_confidence`."
    )
    attention: Attention | None = None


class PictureCaption(Said):
    """What a model says of one picture of the request."""

    index: int = Field(ge=0, description="The picture's place in the request.")
    name: str = Field(description="Its file name, as the request gave it.")
    alternatives: list[Said] | None = Field(None, description="The next best, if asked for.")


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


class Models(BaseModel):
    """What there is to choose from, the default first."""

    models: list[ModelInfo]


class Health(BaseModel):
    """That the server is there."""

    status: Literal["ok"]
