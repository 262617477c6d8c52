"""What a model's server says where it does not do what it is asked, and what that is about."""

import json
import re
from dataclasses import dataclass
from typing import Self

NOT_TAKEN = (
    r"unsupported(?![ _]value)|(not|n't) (support|allow|permit|accept|recogni[sz]e|take)"
    r"|unrecogni[sz]ed|unknown|unexpected|extra[ _](inputs?|fields?|forbidden)"
)
"""How servers say that they do not know a parameter, or do not take it."""

OTHER_VALUE = r"unsupported[ _]value|must be|only|allowed|invalid"
"""How they say that they do not take its value."""

LIMITS = frozenset({"max_tokens", "max_completion_tokens"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal, whole: too long for showing.

    Attributes:
        text: in words.
        code: as the server's API calls the kind of error; empty where it does not tell.
        parameter: which parameter it is about; None where it does not tell.
    """

    text: str
    code: str = ""
    parameter: str | None = None

    @classmethod
    def of(cls, value: object) -> Self:
        """That of an answer: ``{"error": {"message": ..., "code": ..., "param": ...}}`` or so.

        Args:
            value: of its JSON; the text where it is none.
        """
        error = value.get("error", value) if isinstance(value, dict) else value
        if not isinstance(error, dict):
            return cls(str(error))
        said = error.get("message") or error.get("detail") or json.dumps(error)
        parameter = error.get("param")
        return cls(
            str(said),
            str(error.get("code") or error.get("type") or ""),
            parameter if isinstance(parameter, str) and parameter else None,
        )

    def is_of(self, name: str) -> bool:
        """Whether it refuses the parameter ``name`` itself, and does not merely mention it.

        That a caption's length is too large for the model ("'max_tokens' is too large: 400. This
        model's maximum context length is ...") is no such refusal: the server takes a limit. Of
        others, which showtell sends of its own accord, a refusal of the value counts, too.
        """
        about = self.parameter
        if about is not None and about.rpartition(".")[2] != name:
            return False
        words = NOT_TAKEN if name in LIMITS else f"{NOT_TAKEN}|{OTHER_VALUE}"
        if about is not None and re.search(words, self.code, re.IGNORECASE):
            return True
        return any(
            re.search(rf"\b{name}\b", sentence) and re.search(words, sentence, re.IGNORECASE)
            for sentence in re.split(r"(?<=[.!?])\s+", self.text)
        )
