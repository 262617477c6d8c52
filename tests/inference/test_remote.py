"""Captioners behind servers of OpenAI's kind and of Ollama's: on loopback, well-behaved or not."""

import gc
import json
import math
import os
import socket
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from PIL import Image
from rogue_server import (
    BROKEN,
    CUT,
    FULL,
    HUGE,
    KEY,
    NO_CHOICES,
    NOT_AN_OBJECT,
    RUBBISH,
    STALL,
    Deed,
    RogueServer,
    asks_to_wait,
    numbered,
    rogue_server,
)

import showtell
from showtell.cli.captioners import say_runtime
from showtell.errors import ConfigError, ImageError, ServerError
from showtell.inference.backends import remote_client, remote_pace, remote_run
from showtell.inference.backends.ollama import OllamaCaptioner
from showtell.inference.backends.openai import OpenAICaptioner
from showtell.inference.backends.remote import RemoteCaptioner
from showtell.inference.backends.remote_answer import word_log_probs
from showtell.inference.backends.remote_client import worker
from showtell.inference.stream import Originals, Pending, PictureResult, Prepared

KINDS = ("openai", "ollama")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OLLAMA_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    with rogue_server() as found:
        yield found


def load(kind: str, server: RogueServer, **settings: object) -> RemoteCaptioner:
    """A captioner that does not wait long."""
    given = {"base_url": server.url, "timeout": 2.0, "retries": 2, **settings}
    captioner = showtell.load(f"{kind}:tiny", settings=given)
    assert isinstance(captioner, RemoteCaptioner)
    quick = remote_pace.Patience(captioner.patience.timeout, captioner.patience.retries, 0.01)
    captioner.patience = quick
    return captioner


def results_of(captioner: RemoteCaptioner, folder: Path, **options: object) -> list[PictureResult]:
    return list(captioner.caption_stream(sorted(folder.iterdir()), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_in_order_and_within_its_concurrency(
    kind: str, server: RogueServer, tmp_path: Path
) -> None:
    folder = numbered(tmp_path, 30)
    server.delay = 0.02
    captioner = load(kind, server, concurrency=5)
    results = results_of(captioner, folder)
    assert [result.text for result in results] == [f"picture {n}" for n in range(30)]
    assert [Path(result.path).name for result in results] == [f"{n:03d}.png" for n in range(30)]
    assert server.counts == dict.fromkeys(range(30), 1)
    assert 1 < server.most <= 5
    assert server.keys == {f"Bearer {KEY}"}
    assert captioner.usage.answers == 30
    assert (captioner.usage.tokens_in, captioner.usage.tokens_out) == (3000, 210)
    for result in results:
        assert result.caption is not None
        assert result.caption.words == tuple(result.text.split())
        # "pic" + "ture" are one word of two tokens; a number of three digits is one token.
        assert result.caption.log_probs == (-0.5, -0.25)
        assert result.confidence == pytest.approx(math.exp(-0.375))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_shrunk_and_asked_about_as_the_user_wants(
    kind: str, server: RogueServer
) -> None:
    captioner = load(kind, server, max_side=64, prompt="alt")
    image = Image.new("RGB", (500, 100), (12, 12, 36))
    decoding = {"method": "sample", "seed": 5, "temperature": 0.7, "top_p": 0.9, "max_length": 20}
    captions = captioner.caption([image, image], decoding=decoding)
    assert [caption.text for caption in captions] == ["picture 1"] * 2
    assert captions[0].thumbnail
    bodies = sorted(server.bodies, key=json.dumps)
    for number, body in enumerate(bodies):
        assert body["model"] == "tiny"
        [message] = body["messages"]
        assert "alt text" in json.dumps(message)
        options = body if kind == "openai" else body["options"]
        assert options["temperature"] == 0.7 and options["top_p"] == 0.9
        assert options["seed"] == 5 + number
        assert options["max_tokens" if kind == "openai" else "num_predict"] == 40
    body = server.bodies[0]
    jpeg = (
        body["messages"][0]["content"][1]["image_url"]["url"].partition("base64,")[2]
        if kind == "openai"
        else body["messages"][0]["images"][0]
    )
    import base64
    import io

    sent = Image.open(io.BytesIO(base64.b64decode(jpeg)))
    assert sent.format == "JPEG" and sent.size == (64, 13)


FATES: list[tuple[list[Deed], str | None]] = [
    ([], None),
    ([BROKEN], None),
    ([BROKEN, CUT], None),
    ([FULL, FULL], None),
    ([asks_to_wait(0.3)], None),
    ([Deed(503, b"busy")], None),
    ([STALL], None),
    ([BROKEN] * 3, "500: out of memory (tried 3 times)"),
    ([FULL] * 6, None),  # which says nothing of the picture
    ([CUT] * 3, "cut the connection (tried 3 times)"),
    ([STALL] * 3, "no answer within 0.5 s (tried 3 times)"),
    ([RUBBISH], 'is not JSON: "<html>Welcome'),
    ([HUGE], "more than 1,048,576 bytes"),
    ([NO_CHOICES], "has no caption"),
    ([NOT_AN_OBJECT], "has no caption"),
    ([Deed(200, b"{}", {"Content-Encoding": "gzip"})], "compressed as gzip"),
    ([Deed(400, b'{"error": "cannot process image"}')], "400: cannot process image"),
    ([Deed(413, b"")], "answers 413"),
    ([Deed(400, json.dumps({"error": f"your key {KEY} is odd"}).encode())], "your key *** is odd"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_has_a_caption_or_a_reason(
    kind: str, server: RogueServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = numbered(tmp_path, len(FATES) + 3)
    empty, echoed, unreadable = range(len(FATES), len(FATES) + 3)
    server.answer = lambda number: {empty: "  ", echoed: f"key {KEY}"}.get(number, f"p {number}")
    (folder / f"{unreadable:03d}.png").write_bytes(b"no picture")
    for number, (deeds, _) in enumerate(FATES):
        server.deeds[number] = list(deeds)
    results = results_of(load(kind, server, timeout=0.5), folder)
    assert [Path(r.path).name for r in results] == [f"{n:03d}.png" for n in range(len(results))]
    for number, (result, (_, reason)) in enumerate(zip(results, FATES, strict=False)):
        if reason is None:
            assert result.text == f"p {number}", result
        else:
            assert result.caption is None and str(result.error).startswith(f"{result.path}: ")
            assert reason in str(result.error)
    assert "the model said nothing" in str(results[empty].error)
    assert results[echoed].text == "key ***"
    assert "not a picture" in str(results[unreadable].error)
    assert len(results) == len(FATES) + 3 == len({r.path for r in results})
    assert KEY not in repr(results) + "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", KINDS)
def test_retry_after_holds_all_requests(kind: str, server: RogueServer, tmp_path: Path) -> None:
    folder = numbered(tmp_path, 4)
    server.deeds[0] = [asks_to_wait(1)]
    started = time.monotonic()
    captioner = load(kind, server, concurrency=1)
    assert [r.text for r in results_of(captioner, folder)] == [f"picture {n}" for n in range(4)]
    assert time.monotonic() - started > 1
    assert server.seen == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("too_soon", [asks_to_wait(0.05), asks_to_wait(0), FULL])
def test_a_server_with_a_rate_limit_loses_no_picture(
    too_soon: Deed, server: RogueServer, tmp_path: Path
) -> None:
    server.seconds_between, server.too_soon = 0.05, too_soon
    results = results_of(load("openai", server, retries=0), numbered(tmp_path, 20))
    assert [r.text for r in results] == [f"picture {n}" for n in range(20)]
    # Waiting requests do not all fire together: else each of the 8 is refused 7 times of 8.
    assert len(server.seen) < 20 * 5


def test_a_server_that_stays_full_ends_the_run(server: RogueServer, tmp_path: Path) -> None:
    captioner = load("openai", server, concurrency=2)
    captioner.patience = replace(captioner.patience, longest_wait=0.5)
    server.everything = asks_to_wait(0.1)
    said = r"429: slow down, and nothing else for \d s; to resume, run the same command again later"
    with pytest.raises(remote_client.ServerFull, match=said):
        results_of(captioner, numbered(tmp_path, 3))


def test_a_long_wait_for_a_full_server_is_told_once(
    server: RogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner, told = load("openai", server, concurrency=2), list[str]()
    captioner.tell = told.append
    folder = numbered(tmp_path, 3)
    server.deeds[0] = [asks_to_wait(0.1)]  # a short wait is not worth a line
    assert [r.text for r in results_of(captioner, folder)] == [f"picture {n}" for n in range(3)]
    assert told == []
    monkeypatch.setattr(remote_client, "TOLD_AFTER", 0.25)
    server.deeds[0] = [asks_to_wait(0.1)] * 6
    assert [r.text for r in results_of(captioner, folder)] == [f"picture {n}" for n in range(3)]
    said = f"{server.url}/v1: the server answers 429: slow down; waiting, at most 10 minutes"
    assert told == [said]


def test_commands_tell_it_on_standard_error(
    server: RogueServer, capsys: pytest.CaptureFixture[str]
) -> None:
    captioner = load("openai", server)
    say_runtime(captioner)
    captioner.tell("the server is full")
    assert capsys.readouterr() == ("", f"{captioner.describe_runtime()}\nthe server is full\n")


def test_a_look_at_a_full_server_does_not_wait_for_long(server: RogueServer) -> None:
    server.post = lambda handler: server.send(handler, asks_to_wait(60))  # type: ignore[method-assign]
    started = time.monotonic()
    assert showtell.load("ollama:tiny", settings={"base_url": server.url}).card.name == "tiny"
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict, seconds: float | None) -> None:
    assert remote_pace.retry_after(headers) == seconds


# A connection that is given up leaves a coroutine of anyio behind; Python says so at times.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_gone_is_one_line(kind: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with rogue_server() as server:
        url = server.url
        captioner = load(kind, server)
    started = time.monotonic()
    with pytest.raises(ServerError, match=f"{url}.*no server listens there.*--base-url"):
        showtell.load(f"{kind}:tiny", settings={"base_url": url})
    assert time.monotonic() - started < 5
    # It was there when the run began, and no picture gets through now.
    folder = numbered(tmp_path, 40)
    with pytest.raises(ServerError, match=r"16 pictures in a row have failed.*resume"):
        assert results_of(captioner, folder) == []


def test_a_connection_that_has_just_begun_is_ended_by_what_began_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: left.append(str(found.exc_value)))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        async def connect() -> None:
            while True:
                stream = await anyio.connect_tcp(*listening.getsockname())
                await stream.aclose()

        for _ in range(20):
            with worker() as threads:
                for _ in range(8):
                    threads.start(connect())
                time.sleep(0.002)
    gc.collect()
    assert left == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_goes_down_ends_the_run_behind_what_succeeded(
    kind: str, server: RogueServer, tmp_path: Path
) -> None:
    folder = numbered(tmp_path, 60)
    for number in range(60):
        server.deeds[number] = [] if number < 20 or number == 30 else [BROKEN] * 9
    captioner = load(kind, server, retries=0)
    results = []
    with pytest.raises(ServerError, match=r"in a row have failed, the last: .*046.png: .*500"):
        for result in captioner.caption_stream(sorted(folder.iterdir())):
            results.append(result)
    assert [r.error is None for r in results] == [True] * 20 + [False] * 10 + [True]


@pytest.mark.parametrize("kind", KINDS)
def test_first_pictures_that_are_all_refused_have_results_and_end_the_run(
    kind: str, server: RogueServer, tmp_path: Path
) -> None:
    folder = numbered(tmp_path, 60)
    for number in range(40):
        server.deeds[number] = [Deed(400, b'{"error": "too dark"}')] * 9
    captioner = load(kind, server, concurrency=4)
    results = []
    said = (
        r"the first \d+ pictures have all failed, the last: .*: too dark; check the model and --pro"
    )
    with pytest.raises(remote_run.PicturesRefused, match=said) as caught:
        for result in captioner.caption_stream(sorted(folder.iterdir())):
            results.append(result)
    # A few more than 16 where more answers than one have come by then.
    assert 16 <= len(results) <= 16 + 2 * 4 and str(results[-1].error) in str(caught.value)
    assert [Path(r.path).name for r in results] == [f"{n:03d}.png" for n in range(len(results))]
    assert all("400: too dark" in str(r.error) for r in results)
    # After a caption, and where no others come, they are failures as any.
    rest = [folder / "050.png", *(folder / f"{n:03d}.png" for n in range(40))]
    found = [r.error is None for r in captioner.caption_stream(rest)]
    assert found == [True] + [False] * 40
    assert len(list(captioner.caption_stream(rest[1:17]))) == 16


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (Deed(401, b'{"error": {"message": "Incorrect API key"}}'), "refuses the key in O.*_KEY"),
        (Deed(403, b"no"), "refuses the key"),
        (Deed(404, b'{"error": {"message": "no model x"}}'), "right --base-url and model"),
        (Deed(302, b"", {"Location": "http://evil.example/v1/x?k=1"}), "redirects to evil.example"),
        (Deed(429, b'{"error": {"code": "insufficient_quota"}}'), "run the same command again"),
        (asks_to_wait(7200), "asks to wait for 7,200 s"),
    ],
)
def test_what_no_picture_can_pass_ends_the_run(
    kind: str, deed: Deed, reason: str, server: RogueServer, tmp_path: Path
) -> None:
    captioner = load(kind, server)
    server.everything = deed
    with pytest.raises(ServerError, match=reason) as caught:
        results_of(captioner, numbered(tmp_path, 3))
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_that_is_refused_shows_before_the_first_picture(server: RogueServer) -> None:
    server.everything = Deed(401, b'{"error": "who are you?"}')
    for kind in KINDS:
        with pytest.raises(ServerError, match=r"refuses the key.*who are you"):
            load(kind, server)
    assert server.seen == []


def test_ollama_s_models_are_looked_up(server: RogueServer) -> None:
    assert load("ollama", server).digest == "d" * 12
    server.models = [{"model": "gemma3:4b"}]
    with pytest.raises(ServerError, match="ollama pull tiny`; it has gemma3:4b"):
        load("ollama", server)
    server.models = [{"model": "tiny:latest"}]
    server.capabilities = ["completion"]
    with pytest.raises(ServerError, match="takes no pictures"):
        load("ollama", server)
    server.capabilities = None
    assert load("ollama", server).card.prompt
    server.everything = RUBBISH
    with pytest.raises(ServerError, match="not JSON"):
        load("ollama", server)


def test_parameters_that_a_model_does_not_take_are_left_out(
    server: RogueServer, tmp_path: Path
) -> None:
    server.refuses = ("logprobs", "max_tokens", "temperature")
    server.log_probs = False
    captioner = load("openai", server, concurrency=1)
    results = results_of(captioner, numbered(tmp_path, 3))
    assert [r.text for r in results] == ["picture 0", "picture 1", "picture 2"]
    assert server.seen == [0, 0, 0, 0, 1, 2]
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}
    assert not captioner.card.likelihoods
    assert all(math.isnan(r.confidence) for r in results)
    with pytest.raises(ConfigError, match="min_confidence"):
        captioner.caption_stream([], decoding={"min_confidence": 0.5})
    # A temperature that was asked for is not left out.
    server.refuses = ("temperature",)
    [result] = captioner.caption_stream([tmp_path / "000.png"], decoding={"method": "sample"})
    assert "temperature" in str(result.error)


def refusal(message: object, **more: object) -> Deed:
    return Deed(400, json.dumps({"error": {"message": message, **more}}).encode())


TOO_LARGE = (
    "'max_tokens' or 'max_completion_tokens' is too large: 200. This model's maximum context "
    "length is 4096 tokens and your request has 4000 input tokens (200 > 4096 - 4000)."
)


@pytest.mark.parametrize(
    "deed",
    [
        refusal(TOO_LARGE, type="BadRequestError", param=None, code=400),
        refusal(TOO_LARGE, param="max_tokens", code="invalid_value"),
        refusal("max_tokens must be at least 1, unless unlimited.", param="max_tokens"),
        refusal("Unknown image format. Given: max_tokens, temperature.", param="messages"),
        refusal("This picture is not supported. Sent with max_tokens 200, temperature 0."),
    ],
)
def test_a_parameter_that_is_only_mentioned_stays(
    deed: Deed, server: RogueServer, tmp_path: Path
) -> None:
    server.deeds[0] = [deed]
    captioner = load("openai", server, concurrency=1)
    failed, good = results_of(captioner, numbered(tmp_path, 2))
    assert "the server answers 400: " in str(failed.error) and good.text == "picture 1"
    assert server.seen == [0, 1] and captioner._refused == set()
    assert server.bodies[1]["max_tokens"] == 200


@pytest.mark.parametrize(
    ("name", "deed"),
    [
        ("max_tokens", refusal("Unrecognized request argument supplied: max_tokens")),
        ("max_tokens", refusal("no", param="max_tokens", code="unsupported_parameter")),
        ("max_tokens", refusal("max_tokens: Extra inputs are not permitted")),
        (
            "max_tokens",
            Deed(
                422,
                b'{"detail": [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], '
                b'"msg": "Extra inputs are not permitted", "input": 200}]}',
            ),
        ),
        ("logprobs", refusal("You are not allowed to request logprobs from this model")),
        ("logprobs", refusal(f"{'x' * 300}; Unknown name 'logprobs': Cannot find field.")),
        (
            "temperature",
            refusal(
                "Unsupported value: 'temperature' does not support 0 with this model. Only the "
                "default (1) value is supported.",
                param="temperature",
                code="unsupported_value",
            ),
        ),
        ("temperature", refusal("`temperature` must be strictly positive")),
    ],
)
def test_a_parameter_that_is_refused_is_not_sent_again(
    name: str, deed: Deed, server: RogueServer, tmp_path: Path
) -> None:
    server.deeds[0] = [deed]
    captioner = load("openai", server, concurrency=1)
    results = results_of(captioner, numbered(tmp_path, 2))
    assert [result.text for result in results] == ["picture 0", "picture 1"]
    usual = {"max_tokens", "logprobs", "temperature"}
    renamed = {"max_completion_tokens"} if name == "max_tokens" else set()
    for body in server.bodies[1:]:
        assert body.keys() == {"model", "messages"} | usual - {name} | renamed
        assert body.get("max_tokens", body.get("max_completion_tokens")) == 200


def test_the_length_is_limited_even_where_both_names_of_it_are_refused(
    server: RogueServer, tmp_path: Path
) -> None:
    server.refuses = ("max_tokens", "max_completion_tokens")
    results = results_of(load("openai", server, concurrency=1), numbered(tmp_path, 2))
    assert all("'max_completion_tokens' is not supported" in str(r.error) for r in results)
    assert len(server.bodies) == 3
    assert all({"max_tokens", "max_completion_tokens"} & body.keys() for body in server.bodies)


def test_what_is_not_known_to_be_sure_stops_where_sureness_is_asked_for(
    server: RogueServer, tmp_path: Path
) -> None:
    server.log_probs = False
    with pytest.raises(ConfigError, match="no log-probabilities"):
        results_of(load("openai", server), numbered(tmp_path, 2), decoding={"min_confidence": 0.1})
    server.log_probs = True
    [result, _] = results_of(load("openai", server), tmp_path, decoding={"min_confidence": 0.9})
    assert result.caption is not None and result.caption.withheld == "picture 0"


def test_neutral_words(server: RogueServer, tmp_path: Path) -> None:
    server.answer = lambda number: ("a man rides his bike", "ein Mann mit einem Rad")[number % 2]
    found = results_of(load("openai", server, concurrency=1), numbered(tmp_path, 2))
    assert [r.text for r in found] == ["a man rides his bike", "ein Mann mit einem Rad"]
    for asked in ({"neutral": True}, {"style": "neutral"}):
        captioner = load("openai", server, concurrency=1)
        texts = [
            r.text for r in captioner.caption_stream(sorted(tmp_path.glob("*.png")), decoding=asked)
        ]
        assert texts == ["a person rides their bike", "ein Mann mit einem Rad"]
    with pytest.raises(ConfigError, match="style = short has no meaning"):
        load("openai", server).caption_stream([], decoding={"style": "short"})


def test_answers_of_other_forms(server: RogueServer, tmp_path: Path) -> None:
    folder = numbered(tmp_path, 4)

    def answer(message: dict, reason: str = "stop") -> Deed:
        choice = {"message": message, "finish_reason": reason}
        return Deed(200, json.dumps({"choices": [choice]}).encode())

    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "dog"}]
    server.deeds[0] = [answer({"content": parts})]
    server.deeds[1] = [answer({"content": None, "refusal": "I cannot help"})]
    server.deeds[2] = [answer({"content": ""}, "length")]
    server.deeds[3] = [answer({"content": "a dog on a"}, "length")]
    results = results_of(load("openai", server), folder)
    assert results[0].text == "a dog"
    assert "refuses: I cannot help" in str(results[1].error)
    assert "raise max_length" in str(results[2].error)
    assert results[3].text == "a dog on a" and "was cut" in results[3].notes[0]


ODD_USAGE = {"prompt_tokens": "x", "completion_tokens": float("inf")}


@pytest.mark.parametrize(
    ("listed", "usage"),
    [
        ([{"token": "a dog", "logprob": None}], ODD_USAGE),
        ([{"token": "a dog", "logprob": 10**400}], {"prompt_tokens": 10**400}),
        ([{"token": "a dog"}], {"prompt_tokens": -1, "completion_tokens": [1]}),
        ([{"token": "a dog", "logprob": "nan"}], [1]),
        (["a dog"], "x"),
        (1, None),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_odd_beside_a_caption_does_not_lose_it(
    kind: str, listed: object, usage: object, server: RogueServer, tmp_path: Path
) -> None:
    value: dict = {"choices": [{"message": {"content": "a dog"}, "logprobs": {"content": listed}}]}
    value["usage"] = usage
    if kind == "ollama":
        value = {"message": {"content": "a dog"}, "logprobs": listed}
        if isinstance(usage, dict):
            value |= {"prompt_eval_count": usage.get("prompt_tokens"), "eval_count": 1e999}
    captioner = load(kind, server)
    server.everything = Deed(200, json.dumps(value).encode())
    [result] = results_of(captioner, numbered(tmp_path, 1))
    assert result.caption is not None and result.text == "a dog"
    assert result.caption.log_probs == () and math.isnan(result.caption.confidence)
    assert (captioner.usage.tokens_in, captioner.usage.tokens_out) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_breaks_a_file_or_shows_the_key(
    kind: str, server: RogueServer, tmp_path: Path
) -> None:
    server.answer = lambda _: f"a \ud83d dog\x1b[31m\r\nand {KEY[:9]}\0{KEY[9:]}"
    [result] = results_of(load(kind, server), numbered(tmp_path, 1))
    assert result.caption is not None
    assert result.caption.raw == "a \ufffd dog[31m\nand ***"
    assert result.caption.words == ("a", "\ufffd", "dog[31m", "and", "***")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("openai", {"choices": [{"message": {"content": None, "refusal": f"no,\nnot {KEY}"}}]}),
        ("openai", {f"{KEY}": [f"for {KEY}"]}),
        ("openai", {"choices": [{"message": {"content": "", "refusal": f"{KEY[:9]}\0{KEY[9:]}"}}]}),
        ("ollama", {"message": [f"\u00e4 {KEY}"]}),
    ],
)
def test_no_reason_shows_the_key(
    kind: str, value: dict, server: RogueServer, tmp_path: Path
) -> None:
    server.deeds[0] = [Deed(200, json.dumps(value).encode())]
    [result] = results_of(load(kind, server), numbered(tmp_path, 1))
    reason = str(result.error)
    assert "***" in reason or "?" in reason
    assert KEY not in reason and reason.isprintable()


def test_no_name_of_a_model_shows_the_key(server: RogueServer) -> None:
    server.models = [{"model": f"gemma-{KEY}"}]
    with pytest.raises(ServerError, match=r"it has gemma-\*\*\*"):
        load("ollama", server)
    server.models = [{"model": "tiny", "digest": KEY}]
    assert load("ollama", server).card.revision == "***"
    server.capabilities = [KEY]
    with pytest.raises(ServerError, match=r"it can: \*\*\*"):
        load("ollama", server)


def test_a_password_is_cut_out_before_it_is_written_as_json(
    server: RogueServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    url = server.url.replace("http://", "http://me:p%C3%A4ssword-of-mine@")
    said = {"error": {"reason": "what is p\u00e4ssword-of-mine?"}}
    server.deeds[0] = [Deed(400, json.dumps(said).encode())]
    [result] = results_of(load("openai", server, base_url=url), numbered(tmp_path, 1))
    assert "what is ***?" in str(result.error)


def test_large_models_texts_are_cleaned_and_kept(server: RogueServer, tmp_path: Path) -> None:
    server.answer = lambda number: f"Sure! Here is a caption: **Picture {number}.** It is nice."
    folder = numbered(tmp_path, 1)
    [result] = results_of(load("openai", server), folder)
    assert result.text == "Picture 0."
    assert result.caption is not None and result.caption.raw == server.answer(0)
    [result] = results_of(load("openai", server, prompt="detailed"), folder)
    assert result.text == "Picture 0. It is nice."
    changes = {"prefix": "ohwx, ", "max_words": 1}
    given = {"base_url": server.url}
    captioner = showtell.load("openai:tiny", settings=given, cleaning=changes)
    [result] = captioner.caption_stream([folder / "000.png"])
    assert result.text == "ohwx, Picture."


def test_pictures_that_look_the_same_are_asked_about_once(
    server: RogueServer, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    all_colours = numbered(tmp_path / "all", 1000)
    numbers = [0, 505, 0, 550, 550, 55, 999]
    for place, number in enumerate(numbers):
        (folder / f"{place}.png").write_bytes((all_colours / f"{number:03d}.png").read_bytes())
    server.deeds[550] = [BROKEN]
    results = results_of(load("openai", server, retries=0), folder, originals=Originals())
    assert results[0].text == results[2].text == "picture 0"
    assert results[2].same_as == folder / "0.png"
    assert "500: out of memory" in str(results[3].error)
    assert str(results[4].error).startswith(
        f"{folder / '4.png'}: looks like {folder / '3.png'}, which failed: the server answers 500"
    )
    assert results[4].may_pass and results[4].same_as == folder / "3.png"
    assert [results[n].text for n in (1, 5, 6)] == ["picture 505", "picture 55", "picture 999"]
    assert sorted(server.seen) == [0, 55, 505, 550, 999]


def test_only_so_many_results_wait_for_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failures that come meanwhile still count towards the end of the run."""
    monkeypatch.setattr(remote_run, "MOST_HELD", 5)

    def ask(jpeg: str, number: int) -> Future:
        answer: Future = Future()
        answer.set_result(remote_run.Outcome(f"{number} failed", is_servers_fault=True))
        return answer

    results = remote_run.OrderedResults("http://gpu", ask)
    unreadable = ImageError("x.png: no picture")
    given = []
    with pytest.raises(ServerError, match="16 pictures in a row have failed, the last: 15: 15 fa"):
        for number in range(16):
            results.add(Pending(f"{number}", Prepared("", None, ()), None))
            for _ in range(3):
                results.add(Pending("x.png", unreadable, None))
            while len(results):
                given += results.take()
    paths = [result.path for result in given]
    in_order = [path for number in range(16) for path in (f"{number}", *["x.png"] * 3)]
    assert paths == in_order[: len(paths)] and len(paths) > len(in_order) - 3 - 2 * 5


def test_a_stalled_server_does_not_keep_a_stream_from_being_stopped(
    server: RogueServer, tmp_path: Path
) -> None:
    folder = numbered(tmp_path, 20)
    server.everything = None
    for number in range(1, 20):
        server.deeds[number] = [Deed(stalls=20.0)] * 3
    captioner = load("openai", server, timeout=60.0)
    stream = captioner.caption_stream(sorted(folder.iterdir()))
    assert next(iter(stream)).text == "picture 0"
    started = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_stream_asks_about_nothing_more_and_gives_the_answers_that_come(
    kind: str, server: RogueServer, tmp_path: Path
) -> None:
    pictures = sorted(numbered(tmp_path, 60).iterdir())
    captioner = load(kind, server, concurrency=3)
    server.delay = 0.02
    twice = (*pictures[:9], *pictures)  # as they may wait for others
    results = list(
        captioner.caption_stream(
            twice, originals=Originals(), is_stopped=lambda: len(server.seen) >= 5
        )
    )
    assert 5 <= len(server.seen) <= 5 + 3 - 1
    own = [result for result in results if result.same_as is None]
    assert [int(Path(r.path).stem) for r in own] == sorted(server.seen)
    assert all(result.caption is not None for result in results)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://gpu:8000", "http://gpu:8000/v1"),
        ("http://gpu:8000/v1/", "http://gpu:8000/v1"),
        ("https://x.example/openai/v1/chat/completions", "https://x.example/openai/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_addresses_of_openai_s_kind(given: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert OpenAICaptioner.endpoint_of(given).url == url
    monkeypatch.setenv("OPENAI_BASE_URL", given)
    assert OpenAICaptioner.endpoint_of(None).url == url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("gpu", "http://gpu:11434"),
        ("gpu:80", "http://gpu:80"),
        (":9000", "http://127.0.0.1:9000"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("https://x.example/ollama/", "https://x.example/ollama"),
    ],
)
def test_addresses_of_ollama(given: str | None, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    assert OllamaCaptioner.endpoint_of(given).url == url


@pytest.mark.parametrize("given", ["ftp://x", "gpu", "http://", "http://x:y", "http://x/v1?k=1"])
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(ConfigError, match="--base-url"):
        OpenAICaptioner.endpoint_of(given)


def test_a_password_in_an_address_is_sent_and_never_shown(
    server: RogueServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    url = server.url.replace("http://", "http://me:my-long-password@")
    server.deeds[0] = [Deed(400, b"what is my-long-password?")]
    captioner = load("openai", server, base_url=url)
    [result] = captioner.caption_stream([numbered(tmp_path, 1) / "000.png"])
    assert server.keys == {"Basic bWU6bXktbG9uZy1wYXNzd29yZA=="}
    shown = f"{result} {captioner.endpoint} {captioner.describe_runtime()}"
    assert "my-long-password" not in shown and "bWU6" not in shown


def test_settings_that_cannot_be(server: RogueServer) -> None:
    for settings in (
        {"max_side": 8},
        {"concurrency": 0},
        {"timeout": 0},
        {"timeout": math.nan},
        {"timeout": 3601},
        {"retries": -1},
        {"revision": "main"},
    ):
        with pytest.raises(ConfigError, match="--"):
            load("openai", server, **settings)
    captioner = load("openai", server)
    for changes in ({"method": "beam"}, {"num_captions": 2}, {"no_repeat_ngram": 2}):
        with pytest.raises(ConfigError):
            captioner.caption_stream([], decoding=changes)
    with pytest.raises(ConfigError, match="attention"):
        captioner.caption_stream([], attention=True)


def test_what_captions_follow_from(server: RogueServer) -> None:
    """Not the address, nor how many at a time."""
    one = load("ollama", server).fingerprint
    assert load("ollama", server, concurrency=2, timeout=9.0).fingerprint == one
    assert load("ollama", server, prompt="alt").fingerprint != one
    assert load("ollama", server, max_side=100).fingerprint != one
    assert load("openai", server).fingerprint != one
    server.models = [{"name": "tiny:latest", "digest": "e" * 64}]
    assert load("ollama", server).fingerprint != one


def test_words_of_tokens() -> None:
    tokens = [("A", -1.0), (" do", -0.5), ("g", -0.5), (" ", -0.25), ("runs", -1.0), ("", -0.1)]
    assert word_log_probs(tokens) == pytest.approx((-1.0, -1.25, -1.1))
    assert word_log_probs([("a", math.nan)]) == word_log_probs([("a", 0.5)]) == ()
    assert word_log_probs([]) == ()
    assert remote_run.MOST_FAILED_IN_A_ROW == 16


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "ALL_PROXY",
            "socks5://proxy:1",
            r"ALL_PROXY names a SOCKS.*pip install 'httpx2\[socks\]'",
        ),
        (
            "https_proxy",
            "ftp://proxy:1",
            r"https_proxy is not an address of a proxy: expected one such",
        ),
        (
            "HTTP_PROXY",
            "socks4://proxy:1",
            r"HTTP_PROXY is not an address.*http, https, socks5, socks5h",
        ),
        (
            "HTTP_PROXY",
            "http://me:my-password@proxy:abc",
            r"HTTP_PROXY is not an address of a proxy",
        ),
        (
            "HTTP_PROXY",
            "http://me:my-password@proxy:99999",
            r"HTTP_PROXY is not an address of a proxy",
        ),
        ("HTTP_PROXY", "http://", r"HTTP_PROXY is not an address of a proxy"),
        ("SSL_CERT_FILE", "/no/such.pem", r"SSL_CERT_FILE=/no/such.pem: No such file.*unset SSL"),
        ("SSL_CERT_FILE", __file__, r"SSL_CERT_FILE=.*test_remote.py: .*certificate.*PEM"),
    ],
)
def test_proxies_and_certificates_that_cannot_be_used_are_named(
    name: str, value: str, said: str, server: RogueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_client, "find_spec", lambda package: None)  # no socksio
    for other in [*os.environ]:
        if other.lower().endswith("_proxy") or other.startswith("SSL_CERT"):
            monkeypatch.delenv(other)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said) as caught:
        showtell.load("openai:tiny", settings={"base_url": "http://gpu.invalid:8000/v1"})
    assert "my-password" not in str(caught.value) and "\n" not in str(caught.value)
    assert load("openai", server).check_server() is None  # no proxy leads to this machine


def test_a_proxy_that_is_not_used_may_be_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://proxy")
    monkeypatch.setenv("NO_PROXY", "localhost, *")
    remote_client.check_proxies()
    monkeypatch.setenv("NO_PROXY", "localhost")
    with pytest.raises(ConfigError, match="HTTP_PROXY"):
        remote_client.check_proxies()
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    remote_client.check_proxies()
