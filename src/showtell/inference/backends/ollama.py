"""Captioners that Ollama runs, on this machine or another.

    showtell caption photos --model ollama:qwen2.5vl:3b

The form of questions and answers is that of Ollama's API reference, "Generate a chat message".
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from showtell.config import DecodingConfig
from showtell.core.messages import some
from showtell.errors import ServerError
from showtell.inference.backends.remote import TOKENS_A_WORD, RemoteCaptioner
from showtell.inference.backends.remote_answer import Answer, count_of, tokens_of
from showtell.inference.backends.remote_client import Client, Endpoint, RequestFailed, variable

ADDRESS, KEY = "OLLAMA_HOST", "OLLAMA_API_KEY"
USUAL_ADDRESS, USUAL_PORT = "127.0.0.1", 11434


class OllamaCaptioner(RemoteCaptioner):
    """Asks an Ollama server."""

    kind: ClassVar[str] = "ollama"

    @staticmethod
    def endpoint_of(base_url: str | None) -> Endpoint:
        """The server of ``--base-url`` or ``OLLAMA_HOST``, which may be a host's name alone.

        Raises:
            ConfigError: it is not an address.
        """
        address = base_url or variable(ADDRESS) or USUAL_ADDRESS
        if "://" not in address:
            host = address if not address.startswith(":") else f"{USUAL_ADDRESS}{address}"
            host = re.sub(r"^0\.0\.0\.0(?=$|[:/])", USUAL_ADDRESS, host)  # where the server listens
            place, slash, path = host.partition("/")
            if not re.search(r":\d+$", place):
                place = f"{place}:{USUAL_PORT}"
            address = f"http://{place}{slash}{path}"
        return Endpoint.of(address, variable(KEY), key_name=KEY)

    async def _check_server(self, client: Client) -> None:
        try:
            listed = (await client.get("api/tags"))["models"]
            names = {str(one.get("model") or one["name"]): one for one in listed}
        except RequestFailed as error:
            raise ServerError(
                f"{self.endpoint.url}: {error}; start it with `ollama serve`, or give its address "
                f"with --base-url or {ADDRESS}"
            ) from None
        except (KeyError, TypeError, AttributeError):
            raise ServerError(f"{self.endpoint.url} is not an Ollama server") from None
        found = names.get(self.model) or names.get(f"{self.model}:latest")
        if found is None:
            there = f"; it has {some(sorted(names))}" if names else ""
            raise ServerError(
                f"{self.endpoint.url} has no model {self.model!r}: get it with `ollama pull "
                f"{self.model}`{there}"
            )
        self.digest = str(found.get("digest") or "")[:12]
        await self._check_sight(client)

    async def _check_sight(self, client: Client) -> None:
        try:
            shown = await client.post("api/show", {"model": self.model})
            can = shown.get("capabilities")
        except (RequestFailed, ServerError, AttributeError):  # older ones do not tell
            return
        if isinstance(can, list) and can and "vision" not in can:
            raise ServerError(
                f"the model {self.model!r} at {self.endpoint.url} takes no pictures (it can: "
                f"{', '.join(map(str, can))}); choose one such as qwen2.5vl or gemma3"
            )

    def _question(
        self, jpeg: str, settings: DecodingConfig, number: int
    ) -> tuple[str, dict[str, Any]]:
        is_sample = settings.method == "sample"
        options = {
            "num_predict": settings.max_length * TOKENS_A_WORD,
            "temperature": settings.temperature if is_sample else 0,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "seed": settings.seed + number if is_sample else None,
        }
        return "api/chat", {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt, "images": [jpeg]}],
            "stream": False,
            "options": {name: value for name, value in options.items() if value is not None},
            **self._optional({"logprobs": True, "think": False}),
        }

    def _answer(self, value: Mapping[str, Any]) -> Answer:
        content = value["message"]["content"]
        if not isinstance(content, str):
            raise TypeError(content)
        return Answer(
            content,
            tokens_of(value.get("logprobs")),
            is_cut=value.get("done_reason") == "length",
            tokens_in=count_of(value, "prompt_eval_count"),
            tokens_out=count_of(value, "eval_count"),
        )
