"""The official clients of OpenAI and of Ollama, and plain requests as they send them."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ollama
import openai
import pytest
from rogue_server import BROKEN, KEY, RogueServer, rogue_server
from tiny_server import (
    Answer,
    TinyServer,
    gated_encoder,
    picture,
    running,
    serving,
    tiny_captioner,
    until,
)

from showtell.config import DecodingConfig
from showtell.errors import ConfigError
from showtell.inference.loading import ModelRequest
from showtell.inference.specs import BackendSettings
from showtell.server.chat import Clients, _for_several, parsed
from showtell.server.connections import LOOPBACK, Access
from showtell.server.limits import MIB, Limits
from showtell.server.models import LoadedModel, load_models
from showtell.server.openai_api import _tokens_by_piece

TOKEN = "a-token-of-sixteen-characters"
CLIENTS = Clients({"gpt-4o": "looks", "llava": ""})


@pytest.fixture(scope="module")
def server() -> Iterator[TinyServer]:
    with running(clients=CLIENTS) as found:
        yield found


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{coded(data)}"


def message(*pictures: bytes | str, text: str = "What is this?") -> dict[str, Any]:
    urls = [one if isinstance(one, str) else data_url(one) for one in pictures]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}


@pytest.fixture
def gpt(server: TinyServer) -> Iterator[openai.OpenAI]:
    with gpt_at(server.port) as client:
        yield client


def gpt_at(port: int, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0)


@contextmanager
def ollama_client(server: TinyServer, **headers: str) -> Iterator[ollama.Client]:
    client = ollama.Client(f"http://127.0.0.1:{server.port}", headers=headers)
    try:
        yield client
    finally:
        client._client.close()


@pytest.fixture
def llama(server: TinyServer) -> Iterator[ollama.Client]:
    with ollama_client(server) as client:
        yield client


def ask(server: TinyServer, path: str, body: Any) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    return server.ask(path, method="POST", body=content, headers=headers)


def our(server: TinyServer, *pictures: bytes, **fields: str) -> list[str]:
    """What ``/v1/captions`` says of the same pictures."""
    return [one["caption"] for one in server.caption(*pictures, **fields).json["results"]]


def test_openai_s_client_gets_our_caption(server: TinyServer, gpt: openai.OpenAI) -> None:
    done = gpt.chat.completions.create(
        model="plain", messages=[message(picture(1))], temperature=0.2, max_tokens=300
    )
    [choice] = done.choices
    [text] = our(server, picture(1))
    assert choice.message.content == text and text
    assert choice.message.role == "assistant" and choice.finish_reason == "stop"
    assert done.model == "plain" and done.object == "chat.completion"
    assert done.usage is not None
    assert done.usage.completion_tokens == len(text.split()) + 1 == done.usage.total_tokens
    about = done.model_extra["showtell"]
    assert about["prompt_followed"] is False
    assert about["ignored"] == ["max_tokens", "temperature"]
    assert about["captions"][0]["caption"] == text and 0 < about["captions"][0]["confidence"] < 1


def test_openai_s_client_streams(server: TinyServer, gpt: openai.OpenAI) -> None:
    stream = gpt.chat.completions.create(
        model="looks",
        messages=[message(picture(2))],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    [text] = our(server, picture(2), model="looks")
    assert "".join(filter(None, texts)) == text
    assert len([text for text in texts if text]) == len(text.split())
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None and not chunks[-1].choices
    assert {chunk.model for chunk in chunks} == {"looks"}


def test_several_captions_and_their_words(server: TinyServer, gpt: openai.OpenAI) -> None:
    done = gpt.chat.completions.create(
        model="plain", messages=[message(picture(3))], n=3, logprobs=True
    )
    texts = [choice.message.content for choice in done.choices]
    assert len({*texts}) == 3 and texts[0] == our(server, picture(3))[0]
    for choice in done.choices:
        assert choice.logprobs is not None and choice.logprobs.content is not None
        assert "".join(one.token for one in choice.logprobs.content) == choice.message.content
        assert all(one.logprob <= 0 for one in choice.logprobs.content)
    num_tokens = sum(len(text.split()) + 1 for text in filter(None, texts))
    assert done.usage is not None and done.usage.completion_tokens == num_tokens
    stream = gpt.chat.completions.create(
        model="plain",
        messages=[message(picture(3))],
        n=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    *_, last = stream
    assert last.usage is not None and last.usage.completion_tokens == num_tokens


@pytest.mark.parametrize("model", ["looks", "plain"])
def test_streamed_words_have_their_log_probabilities(
    model: str, server: TinyServer, gpt: openai.OpenAI
) -> None:
    asked = [message(picture(3), picture(4))]
    whole = gpt.chat.completions.create(model=model, messages=asked, logprobs=True)
    assert whole.choices[0].logprobs is not None
    stream = gpt.chat.completions.create(model=model, messages=asked, logprobs=True, stream=True)
    found, said = [], ""
    for chunk in stream:
        choice = chunk.choices[0]
        assert bool(choice.delta.content) == (choice.logprobs is not None)
        if choice.logprobs is not None:
            found += choice.logprobs.content or []
            said += str(choice.delta.content)
            assert "".join(one.token for one in found).startswith(said.rpartition("\n")[0])
    assert "".join(one.token for one in found) == said == whole.choices[0].message.content
    assert found == whole.choices[0].logprobs.content


def test_a_word_of_a_stream_has_its_own_tokens() -> None:
    """A word that ends a picture's caption and one that begins the next come as one piece."""

    def texts(pieces: list[str], *tokens: str) -> list[list[str]]:
        found = _tokens_by_piece(pieces, [{"token": token} for token in tokens])
        return [[one["token"] for one in some] for some in found]

    assert texts(["a", " dog\na", " cat"], "a", " dog", "\na", " cat") == [
        ["a"],
        [" dog", "\na"],
        [" cat"],
    ]
    assert texts(["A", " dog"], "the", " dog", " runs") == [["the"], [" dog", " runs"]]
    assert texts(["A", " dog"]) == [[], []]


@pytest.mark.parametrize(
    ("own", "num", "changes"),
    [
        ({"beam_size": 5}, 2, {"num_captions": 2}),
        ({"beam_size": 2}, 4, {"num_captions": 4, "beam_size": 4}),
        ({"method": "greedy"}, 2, {"method": "beam", "num_captions": 2, "beam_size": 3}),
        ({"method": "sample"}, 4, {"num_captions": 4}),
        ({"method": "diverse", "beam_size": 4, "groups": 2}, 3, {"num_captions": 3}),
        (
            {"method": "diverse", "beam_size": 4, "groups": 4},
            6,
            {"num_captions": 6, "beam_size": 8},
        ),
    ],
)
def test_several_captions_are_of_the_model_s_own_search(
    own: dict[str, Any], num: int, changes: dict[str, Any]
) -> None:
    settings = DecodingConfig(**own)
    assert _for_several(num, settings) == changes
    assert settings.with_changes(changes).num_captions == num


def test_several_captions_begin_with_the_one() -> None:
    """Of a beam of 5 a narrower one would find another."""

    def texts(number: int, num: int) -> list[str | None]:
        done = gpt.chat.completions.create(model="wide", messages=[message(picture(number))], n=num)
        return [choice.message.content for choice in done.choices]

    encoder = gated_encoder()
    wide = tiny_captioner("show_tell", encoder, "decoding.method=beam", "decoding.beam_size=5")
    with serving({"wide": LoadedModel("wide", wide)}) as (port, _), gpt_at(port) as gpt:
        for number in range(12):
            assert texts(number, 2)[0] == texts(number, 1)[0]


def test_the_last_message_with_pictures_is_captioned(
    server: TinyServer, gpt: openai.OpenAI
) -> None:
    done = gpt.chat.completions.create(
        model="plain",
        messages=[
            {"role": "system", "content": "You are kind."},
            message(picture(1)),
            {"role": "assistant", "content": "a dog"},
            message(picture(4), picture(5)),
            {"role": "user", "content": "In French, please."},
        ],
    )
    assert done.choices[0].message.content == "\n".join(our(server, picture(4), picture(5)))


def test_models_are_listed_for_both(
    server: TinyServer, gpt: openai.OpenAI, llama: ollama.Client
) -> None:
    assert [model.id for model in gpt.models.list()] == ["plain", "looks"]
    assert gpt.models.retrieve("looks").owned_by == "showtell"
    assert [one["name"] for one in server.ask("/v1/models").json["models"]] == ["plain", "looks"]
    assert [model.model for model in llama.list().models] == ["plain:latest", "looks:latest"]
    assert [model.model for model in llama.ps().models] == ["plain:latest", "looks:latest"]
    shown = llama.show("plain:latest")
    assert shown.capabilities == ["completion", "vision"]
    assert server.ask("/api/version").json["version"]
    with pytest.raises(openai.NotFoundError, match="gpt-5"):
        gpt.models.retrieve("gpt-5")
    with pytest.raises(ollama.ResponseError, match="unknown model"):
        llama.show("qwen")


def test_other_names_of_models(server: TinyServer, gpt: openai.OpenAI) -> None:
    asked = [message(picture(2))]
    done = gpt.chat.completions.create(model="gpt-4o", messages=asked)
    assert done.model == "looks"
    assert gpt.chat.completions.create(model="llava:latest", messages=asked).model == "plain"
    with pytest.raises(openai.NotFoundError) as caught:
        gpt.chat.completions.create(model="gpt-4", messages=asked)
    assert caught.value.code == "model_not_found"
    assert "Did you mean 'gpt-4o'?" in caught.value.message
    elsewhere = server.ask("/v1/chat/completion").json["error"]
    assert elsewhere["code"] is None and elsewhere["message"].startswith(
        "there is nothing at /v1/chat/"
    )
    with pytest.raises(ConfigError, match="--alias x=plan: unknown model 'plan'"):
        Clients({"x": "plan"}).check(["plain"])


@pytest.mark.parametrize("stream", [False, True])
def test_ollama_s_client_gets_our_caption(
    stream: bool, server: TinyServer, llama: ollama.Client
) -> None:
    [text] = our(server, picture(6), model="looks")
    asked = {"role": "user", "content": "What is this?", "images": [picture(6)]}
    generated = llama.generate("looks", "What?", images=[picture(6)], stream=stream)
    chatted = llama.chat("looks:latest", messages=[asked], stream=stream, options={"seed": 1})
    generated, chatted = ([one] if not stream else list(one) for one in (generated, chatted))
    assert "".join(part.response for part in generated) == text
    assert "".join(part.message.content for part in chatted) == text
    for parts in (generated, chatted):
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        assert len(parts) == (len(text.split()) + 1 if stream else 1)
        assert parts[-1].done_reason == "stop" and parts[-1].total_duration > 0
        assert parts[-1].eval_count == len(text.split()) + 1
    about = ask(server, "/api/chat", {"messages": [asked | {"images": [coded(picture(6))]}]})
    last = json.loads(about.body.splitlines()[-1])
    assert last["showtell"]["prompt_followed"] is False
    assert about.headers["content-type"] == "application/x-ndjson"


def test_json_is_written_where_it_is_asked_for(
    server: TinyServer, gpt: openai.OpenAI, llama: ollama.Client
) -> None:
    [text] = our(server, picture(7))
    done = gpt.chat.completions.create(
        model="plain",
        messages=[message(picture(7))],
        response_format={"type": "json_object"},
    )
    assert json.loads(str(done.choices[0].message.content)) == {"caption": text}
    generated = llama.generate("plain", images=[picture(7)], format="json")
    assert json.loads(generated.response) == {"caption": text}
    with pytest.raises(ollama.ResponseError, match="cannot follow a JSON schema"):
        llama.generate("plain", images=[picture(7)], format={"type": "object"})
    with pytest.raises(openai.BadRequestError, match="cannot follow a JSON schema"):
        gpt.chat.completions.create(
            model="plain",
            messages=[message(picture(7))],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        )


def test_ollama_s_client_gets_the_words_log_probabilities(llama: ollama.Client) -> None:
    for stream in (False, True):
        found = llama.generate("plain", images=[picture(3)], logprobs=True, stream=stream)
        parts = list(found) if stream else [found]
        assert parts[-1].logprobs is not None
        said = "".join(part.response for part in parts)
        assert "".join(one.token for one in parts[-1].logprobs) == said
        assert all(one.logprob <= 0 for one in parts[-1].logprobs)


def test_a_model_is_loaded_as_it_is(llama: ollama.Client) -> None:
    assert llama.generate("plain").done_reason == "load"
    assert llama.chat("plain", messages=[]).done_reason == "load"


def test_without_a_picture_there_is_no_answer(gpt: openai.OpenAI, llama: ollama.Client) -> None:
    hello = [{"role": "user", "content": "Hello"}]
    with pytest.raises(openai.BadRequestError, match="this server captions pictures and does"):
        gpt.chat.completions.create(model="plain", messages=hello)  # type: ignore[arg-type]
    with pytest.raises(ollama.ResponseError, match="no picture"):
        llama.chat("plain", messages=hello)
    with pytest.raises(ollama.ResponseError, match="no picture"):
        llama.generate("plain", "Hello")


def chat_body(url: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]}


BAD: list[tuple[str, Any, int, str]] = [
    ("/v1/chat/completions", b"no JSON", 400, "Invalid JSON"),
    ("/v1/chat/completions", b"", 400, "Invalid JSON"),
    ("/v1/chat/completions", b"[" * 100_000, 400, "recursion limit"),
    ("/v1/chat/completions", {}, 400, "messages: Field required"),
    ("/v1/chat/completions", {"messages": "x"}, 400, "messages: Input should be a valid array"),
    ("/v1/chat/completions", {"messages": []}, 400, "at least 1 item"),
    ("/v1/chat/completions", chat_body({}), 400, "no image_url.url"),
    ("/v1/chat/completions", chat_body({"url": "/etc/passwd"}), 400, "is not a data URL"),
    ("/v1/chat/completions", chat_body({"url": "file:///etc/passwd"}), 400, "is not a data URL"),
    ("/v1/chat/completions", chat_body({"url": "data:image/png,x"}), 400, "not in base64"),
    ("/v1/chat/completions", chat_body({"url": "data:;base64,é"}), 400, "not base64"),
    ("/v1/chat/completions", chat_body({"url": "data:;base64,"}), 400, "picture 1: empty"),
    ("/v1/chat/completions", chat_body({"url": "data:;base64,AAAA"}), 415, "not a picture"),
    ("/v1/chat/completions", chat_body({"url": "http://127.0.0.1:1/x"}), 400, "fetches nothing"),
    ("/api/generate", {"images": ["/etc/passwd"]}, 415, "not a picture"),
    ("/api/generate", {"images": ["???"]}, 400, "not base64"),
    ("/api/generate", {"images": ["http://localhost/x.png"]}, 400, "--fetch-from"),
    ("/api/generate", {"images": "x"}, 400, "images"),
    ("/api/chat", {"messages": [{"images": [1]}]}, 400, "texts in base64"),
    ("/api/chat", {"messages": [{"images": ["AAAA"] * 33}]}, 413, "more than 32 pictures"),
    ("/api/chat", {"model": "none", "messages": [{"images": ["AAAA"]}]}, 404, "unknown model"),
    ("/v1/chat/completions", {"messages": [{"a": [[]] * 99_999}]}, 413, "100,000 values"),
    ("/api/generate", {"a": [{}] * 50_001}, 413, "100,000 values"),
    ("/api/show", {"a": [0] * 100_002}, 413, "100,000 values"),
    ("/api/nothing", {}, 404, "POST /api/generate"),
]


@pytest.mark.parametrize(("path", "body", "status", "reason"), BAD)
def test_what_is_wrong_is_said_in_the_client_s_form(
    path: str, body: Any, status: int, reason: str, server: TinyServer
) -> None:
    answer = ask(server, path, body)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    error = answer.json["error"]
    text = error if path.startswith("/api/") else error["message"]
    assert reason in text and "\n" not in text
    if path.startswith("/v1/"):
        assert error["type"] == "invalid_request_error"


def test_limits_are_those_of_forms() -> None:
    limits = Limits(picture_bytes=20_000, request_bytes=100_000, pixels=10_000, pictures=2)
    with running(limits) as server:

        def generate(*pictures: bytes) -> Answer:
            return ask(server, "/api/generate", {"images": [coded(one) for one in pictures]})

        assert generate(picture(1)).status == 200
        assert "more than 20,000 bytes" in generate(b"x" * 20_200).json["error"]
        assert "pixels" in generate(picture(1, size=(200, 60))).json["error"]
        assert "more than 2 pictures" in generate(*[picture(n) for n in range(3)]).json["error"]
        too_large = ask(server, "/api/generate", b" " * 200_000)
        assert too_large.status == 413 and "100,000 bytes" in too_large.json["error"]
        assert server.figure("showtell_upload_bytes") == 0
        assert server.figure("showtell_pictures_waiting") == 0
    assert Limits().request_bytes == 64 * MIB


def test_a_token_is_the_key_of_both_clients() -> None:
    access = Access(token=TOKEN, hosts=LOOPBACK)
    with running(access=access) as server:
        with (
            gpt_at(server.port, "wrong") as stranger,
            pytest.raises(openai.AuthenticationError, match="a bearer token is needed"),
        ):
            stranger.chat.completions.create(model="plain", messages=[message(picture(1))])
        with gpt_at(server.port, TOKEN) as friend:
            done = friend.chat.completions.create(model="plain", messages=[message(picture(1))])
            assert done.choices[0].message.content
        with (
            ollama_client(server) as unknown,
            pytest.raises(ollama.ResponseError, match="a bearer token is needed") as caught,
        ):
            unknown.list()
        assert caught.value.status_code == 401
        with ollama_client(server, Authorization=f"Bearer {TOKEN}") as known:
            assert known.generate("plain", images=[picture(1)]).response
        spec = server.ask("/openapi.json").json["paths"]
        assert spec["/api/chat"]["post"]["security"] == [{"bearer": []}]
        assert "security" not in spec["/healthz"]["get"]


class Elsewhere(BaseHTTPRequestHandler):
    """A host with a picture, a redirect, and one that never ends."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/slow.png"):
            time.sleep(3)
            return
        if self.path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/1.png")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = picture(1) if self.path == "/1.png" else b"x" * (21 * MIB)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def another_host() -> Iterator[str]:
    """Its address."""
    Elsewhere.asked.clear()
    elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    elsewhere.daemon_threads = True
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{elsewhere.server_address[1]}"
    finally:
        elsewhere.shutdown()
        elsewhere.server_close()


def test_pictures_are_fetched_from_allowed_hosts_alone(server: TinyServer) -> None:
    with another_host() as place:
        refused = ask(server, "/v1/chat/completions", chat_body({"url": f"http://{place}/1.png"}))
        assert refused.status == 400 and place in refused.json["error"]["message"]
        assert Elsewhere.asked == []
        with running(clients=Clients(hosts=frozenset({place}))) as allowing:

            def get(url: str) -> Answer:
                return ask(allowing, "/v1/chat/completions", chat_body({"url": url}))

            done = get(f"http://{place}/1.png")
            assert done.status == 200
            assert done.json["choices"][0]["message"]["content"] == our(allowing, picture(1))[0]
            moved = get(f"http://{place}/moved.png")
            assert moved.status == 422 and "answers 302" in moved.json["error"]["message"]
            assert get(f"http://{place}/large").status == 413
            assert get("http://127.0.0.1:1/1.png").status == 400
            assert get(f"http://{place}@example.org/1.png").status == 400
            assert get(f"http://{place}.example.org/1.png").status == 400
        assert Elsewhere.asked == ["/1.png", "/moved.png", "/large"]


def test_pictures_of_a_request_are_not_waited_for_forever() -> None:
    """Each has seconds of its own, and a request may name dozens."""
    limits = Limits(answer_seconds=0.5)
    with another_host() as place:
        allowed = Clients(hosts=frozenset({place}))
        with running(limits=limits, clients=allowed) as server:
            slow = [f"http://{place}/slow.png?{number}" for number in range(8)]
            body = {"messages": [message(*slow)]}
            refused = ask(server, "/v1/chat/completions", body)
            assert refused.status == 422
            assert "within 0.5 seconds" in refused.json["error"]["message"]
            assert server.figure("showtell_upload_bytes") == 0
        assert len(Elsewhere.asked) == 1


def test_a_body_is_not_kept_beside_what_it_says(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[bytearray] = []

    def noted(body: bytearray, kind: Any) -> Any:
        bodies.append(body)
        return parsed(body, kind)

    monkeypatch.setattr("showtell.server.chat.parsed", noted)
    data = picture(1) + bytes(1_000_000)
    with ThreadPoolExecutor(1) as thread:
        with server.held() as backbone:
            answer = thread.submit(ask, server, "/api/generate", {"images": [coded(data)]})
            assert backbone.reached.wait(20)
            assert bodies == [bytearray()]
            # The text in base64, and the bytes that it is of.
            assert server.figure("showtell_upload_bytes") > len(data) * 7 / 3
        assert answer.result().status == 200


def test_a_client_that_goes_away_leaves_nothing(server: TinyServer) -> None:
    body = json.dumps({"images": [coded(picture(1))]}).encode()
    gone = 'showtell_requests_total{method="POST",path="/api/generate",status="499"}'
    before = server.figure(gone)
    with server.held() as backbone, server.connect() as connection:
        head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        assert backbone.reached.wait(20)
    until(lambda: server.figure(gone) == before + 1)
    assert ask(server, "/api/generate", body).status == 200
    assert server.figure("showtell_upload_bytes") == 0


def test_words_go_to_models_that_follow_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of ours before a server of theirs: the clients' prompt is passed on."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with rogue_server() as behind:
        behind.answer = lambda number: f"The image shows a thing {number}."
        settings = BackendSettings(base_url=behind.url, retries=0)
        loaded = load_models([ModelRequest("openai:tiny", settings=settings)])
        behind.bodies.clear()
        with (
            serving(loaded) as (port, _),
            gpt_at(port) as client,
        ):
            asked = [{"role": "system", "content": "Be brief."}, message(picture(1), text="Why?")]
            done = client.chat.completions.create(model="tiny", messages=asked)
            assert str(done.choices[0].message.content).startswith("A thing ")
            assert done.model_extra["showtell"]["prompt_followed"] is True
            [body] = behind.bodies
            assert body["messages"][0]["content"][0]["text"] == "Be brief.\n\nWhy?"
            # What is wrong behind it is not the client's fault, and its address not their business.
            behind.everything = BROKEN
            with pytest.raises(openai.InternalServerError, match="behind this model fails") as bad:
                client.chat.completions.create(model="tiny", messages=asked)
            assert bad.value.status_code == 503 and behind.url not in str(bad.value)
            assert bad.value.response.headers["retry-after"] == "1"
            behind.everything = None
            behind.bodies[1:] = []
            # Words have the limit of a form's field.
            with pytest.raises(openai.APIStatusError, match="more than 16,384 bytes") as large:
                asked = [message(picture(1), text="é" * 8193)]
                client.chat.completions.create(model="tiny", messages=asked)
            assert large.value.status_code == 413
            # Without words, the model's own instructions are used.
            client.chat.completions.create(model="tiny", messages=[message(picture(1), text="")])
            assert "one short sentence" in behind.bodies[1]["messages"][0]["content"][0]["text"]


def test_an_answer_to_the_client_s_words_is_not_cut_to_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence is for our own prompt; what the server's owner has asked for holds."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def said(behind: RogueServer, text: str, **cleaning: Any) -> str:
        settings = BackendSettings(base_url=behind.url, retries=0)
        loaded = load_models([ModelRequest("openai:tiny", settings=settings, cleaning=cleaning)])
        with serving(loaded) as (port, _), gpt_at(port) as client:
            asked = [message(picture(1), text=text)]
            done = client.chat.completions.create(model="tiny", messages=asked)
            return str(done.choices[0].message.content)

    with rogue_server() as behind:
        behind.answer = lambda number: "A dog runs. It is brown. It looks happy."
        assert said(behind, "") == "A dog runs."
        assert said(behind, "Tell me more.") == "A dog runs. It is brown. It looks happy."
        assert said(behind, "Tell me more.", max_sentences=2) == "A dog runs. It is brown."
