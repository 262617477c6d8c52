"""Captioners behind ``/v1/chat/completions``: vLLM, llama.cpp, LM Studio, OpenAI and many others.

    showtell caption photos --model openai:Qwen/Qwen2.5-VL-7B-Instruct --base-url http://gpu:8000/v1

The form of questions and answers is that of OpenAI's API reference, "Create chat completion".
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from showtell.config import DecodingConfig
from showtell.errors import ConfigError, ServerError
from showtell.inference.backends.remote import TOKENS_A_WORD, RemoteCaptioner
from showtell.inference.backends.remote_answer import Answer, count_of, tokens_of
from showtell.inference.backends.remote_client import Client, Endpoint, RequestFailed, variable

ADDRESS, KEY = "OPENAI_BASE_URL", "OPENAI_API_KEY"
USUAL_ADDRESS = "https://api.openai.com/v1"


class OpenAICaptioner(RemoteCaptioner):
    """Asks a server that speaks OpenAI's API."""

    kind: ClassVar[str] = "openai"

    @staticmethod
    def endpoint_of(base_url: str | None) -> Endpoint:
        """The server of ``--base-url`` or ``OPENAI_BASE_URL``; else OpenAI's.

        Raises:
            ConfigError: the address is none, or OpenAI's own server would be asked without a key.
        """
        address, key = base_url or variable(ADDRESS) or USUAL_ADDRESS, variable(KEY)
        if address == USUAL_ADDRESS and key is None:
            raise ConfigError(
                f"{KEY} is not set, and OpenAI's own server needs a key; for another server give "
                "its address: --base-url http://127.0.0.1:8000/v1"
            )
        address = address.rstrip("/").removesuffix("/chat/completions")
        return Endpoint.of(address, key, key_name=KEY, default_path="/v1")

    async def _check_server(self, client: Client) -> None:
        try:
            await client.get("models")
        except RequestFailed as error:
            if error.status is None:  # not every server has a list, but this one did not answer
                raise ServerError(
                    f"{self.endpoint.url}: {error}; start the server, or give its address with "
                    "--base-url"
                ) from None

    def _question(
        self, jpeg: str, settings: DecodingConfig, number: int
    ) -> tuple[str, dict[str, Any]]:
        is_sample = settings.method == "sample"
        most = settings.max_length * TOKENS_A_WORD
        # Newer models take the second name alone, most other servers the first alone. One of them
        # is always sent: without a limit, a model may answer as long as it likes.
        name = "max_completion_tokens" if "max_tokens" in self._refused else "max_tokens"
        content = [
            {"type": "text", "text": self.prompt},
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{jpeg}"}},
        ]
        return "chat/completions", {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            name: most,
            **self._optional(
                {
                    "temperature": settings.temperature if is_sample else 0,
                    "logprobs": True,
                    "top_p": settings.top_p,
                    "top_k": settings.top_k,
                    "seed": settings.seed + number if is_sample else None,
                }
            ),
        }

    def _answer(self, value: Mapping[str, Any]) -> Answer:
        choice = value["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        if message.get("refusal"):
            said = self.endpoint.shown(str(message["refusal"]))
            raise RequestFailed(f"the model refuses: {said}", is_servers=False)
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
        if not isinstance(content, str):
            raise TypeError(content)
        if not content.strip() and reason == "content_filter":
            raise RequestFailed("the server's content filter blocked the answer", is_servers=False)
        listed, usage = choice.get("logprobs"), value.get("usage")
        return Answer(
            content,
            tokens_of(listed.get("content") if isinstance(listed, dict) else None),
            is_cut=reason == "length",
            tokens_in=count_of(usage, "prompt_tokens"),
            tokens_out=count_of(usage, "completion_tokens"),
        )
