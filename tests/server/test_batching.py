"""What arrives together is encoded together; a queue that is full says so at once."""

import asyncio
import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from PIL import Image
from rogue_server import KEY, Deed, rogue_server
from tiny_server import Answer, TinyServer, gated_encoder, picture, running, tiny_models, until

from showtell.config import DecodingConfig
from showtell.errors import ConfigError
from showtell.images.open import Pixels, open_image
from showtell.inference.caption import Caption
from showtell.inference.loading import ModelRequest
from showtell.inference.specs import BackendSettings
from showtell.server.batching import (
    Batcher,
    Job,
    QueueFullError,
    StoppingError,
)
from showtell.server.limits import Limits
from showtell.server.models import LoadedModel, load_models
from showtell.server.problems import Problem
from showtell.server.service import Service
from showtell.server.uploads import Form, Upload


def test_requests_that_arrive_together_are_one_batch(server: TinyServer) -> None:
    """And each gets what it would get alone."""
    batches = server.figure("showtell_batch_pictures_count")
    alone = [server.caption(picture(n)).json["results"][0] for n in range(8)]
    with ThreadPoolExecutor(9) as threads:
        with server.held() as backbone:
            first = threads.submit(server.caption, picture(99))
            assert backbone.reached.wait(20)
            backbone.sizes.clear()
            rest = [threads.submit(server.caption, picture(n)) for n in range(8)]
            until(lambda: server.figure("showtell_pictures_queued") == 8)
        answers = [future.result() for future in rest]
        assert first.result().status == 200
    assert backbone.sizes == [8]
    until(lambda: server.figure("showtell_batch_pictures_count") == batches + 10)
    for answer, expected in zip(answers, alone, strict=True):
        assert answer.json["results"][0]["caption"] == expected["caption"]
        assert answer.json["results"][0]["log_probs"] == pytest.approx(
            expected["log_probs"], abs=1e-3
        )


def test_a_full_queue_is_503_at_once() -> None:
    with running(Limits(queue=4)) as server, ThreadPoolExecutor(4) as threads:
        with server.held() as backbone:
            taken = [threads.submit(server.caption, picture(n)) for n in range(3)]
            assert backbone.reached.wait(20)
            until(lambda: server.figure("showtell_pictures_waiting") == 3)
            started = time.monotonic()
            refused = server.caption(picture(3), picture(4))  # one place is left
            taken.append(threads.submit(server.caption, picture(5)))
            until(lambda: server.figure("showtell_pictures_waiting") == 4)
            refused_unread = server.ask("/v1/captions", method="POST", body=b"")
            assert time.monotonic() - started < 5
            assert server.ask("/readyz").status == 200
        for answer in (refused, refused_unread):
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            assert "queue is full" in answer.json["detail"]
        assert [future.result().status for future in taken] == [200] * 4
        assert server.figure("showtell_pictures_waiting") == 0


def test_what_takes_too_long_is_503_and_drops_out() -> None:
    with running(Limits(answer_seconds=0.3)) as server:
        with server.held() as backbone:
            late = server.caption(picture(0), picture(1))
            assert late.status == 503
            assert "0.3 seconds" in late.json["detail"]
            until(lambda: server.figure("showtell_pictures_waiting") == 0)
        backbone.sizes.clear()
        until(lambda: server.caption(picture(2)).status == 200)  # a busy machine may be late, too
        assert set(backbone.sizes) == {1}


def test_mixed_wishes_in_one_batch(server: TinyServer) -> None:
    wishes: list[dict[str, str]] = [
        {},
        {"model": "looks"},
        {"model": "looks", "attention": "true"},
        {"decoding": json.dumps({"method": "greedy"})},
        {"decoding": json.dumps({"method": "sample", "seed": 3})},
        {"decoding": json.dumps({"method": "sample", "seed": 3, "num_captions": 2})},
        {"decoding": json.dumps({"beam_size": 6, "num_captions": 4})},
    ]

    def ask(wish: dict[str, str]) -> Answer:
        return server.caption(picture(1), picture(2), **wish)

    alone = [ask(wish).json for wish in wishes]
    with ThreadPoolExecutor(8) as threads:
        with server.held() as backbone:
            first = threads.submit(server.caption, picture(99))
            assert backbone.reached.wait(20)
            backbone.sizes.clear()
            rest = [threads.submit(ask, wish) for wish in wishes]
            until(lambda: server.figure("showtell_pictures_queued") == 14)
        together = [future.result().json for future in rest]
        first.result()
    assert backbone.sizes == [14]  # both models have the same encoder
    for one, other in zip(alone, together, strict=True):
        for result, expected in zip(other["results"], one["results"], strict=True):
            assert result["caption"] == expected["caption"]
            assert result.keys() == expected.keys()


class Queue:
    """A batcher by itself, with the tiny models."""

    def __init__(self, **options: float) -> None:
        self.models = tiny_models(gated_encoder())
        self.batcher = Batcher(max_waiting=8, **options)  # type: ignore[arg-type]
        recipe = self.models["plain"].captioner.encoder.preprocessing
        self.view = recipe.eval_view(open_image(picture(0)))

    def submit(self, settings: DecodingConfig | None = None) -> Future[Caption]:
        settings = settings or DecodingConfig(max_length=6)
        return self.batcher.submit(
            Job(self.models["plain"], self.view, settings, False, "request", 0)
        )


def test_batches_have_a_largest_size_and_cancelled_pictures_drop_out() -> None:
    queue = Queue(max_batch=4)
    futures = [queue.submit() for _ in range(7)]
    assert futures[2].cancel()
    queue.batcher.start()
    queue.batcher.stop()
    assert queue.models["plain"].captioner.encoder.backbone.sizes == [3, 3]
    assert [future.cancelled() for future in futures] == [n == 2 for n in range(7)]


def test_it_waits_a_moment_for_what_is_on_its_way_and_no_longer() -> None:
    queue = Queue(max_delay=30.0)
    queue.batcher.start()
    with queue.batcher.expecting():
        first = queue.submit()
        time.sleep(0.05)
        assert not first.running()
        second = queue.submit()
    first.result(20)
    second.result(20)
    started = time.monotonic()
    queue.submit().result(20)  # nothing else is on its way
    assert time.monotonic() - started < 10
    queue.batcher.stop()
    assert queue.models["plain"].captioner.encoder.backbone.sizes == [2, 1]


def test_settings_that_fail_fail_alone() -> None:
    queue = Queue()
    impossible = DecodingConfig(
        method="greedy", max_length=30, min_length=20, no_repeat_ngram=1, forbidden_words=("dog",)
    )
    good, bad = queue.submit(), queue.submit(impossible)
    queue.batcher.start()
    assert good.result(20).log_probs
    with pytest.raises(ConfigError, match="min_length"):
        bad.result(20)
    assert queue.submit().result(20)
    queue.batcher.stop()
    assert not queue.batcher.is_alive


def test_a_slow_server_behind_one_model_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor another picture for it, whatever its prompt, as long as it may be asked."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with rogue_server() as behind:
        settings = BackendSettings(base_url=behind.url, retries=0, concurrency=2)
        remote = load_models([ModelRequest("openai:tiny", settings=settings)])["tiny"]
        behind.everything = Deed(stalls=2.0)
        queue = Queue()
        queue.batcher.start()
        slow = [
            queue.batcher.submit(
                Job(model, Image.new("RGB", (40, 40)), DecodingConfig(), False, "remote", 0)
            )
            for model in (remote, remote.with_prompt("Be brief."), remote.with_prompt("Be kind."))
        ]
        until(lambda: queue.batcher.queued == 1)  # the third
        assert queue.submit().result(20).log_probs
        assert not any(future.done() for future in slow)
        queue.batcher.stop()
        assert all(future.done() for future in slow)


def test_places_are_bounded() -> None:
    queue = Queue()
    with queue.batcher.reserve(5), queue.batcher.reserve(3):
        with pytest.raises(QueueFullError), queue.batcher.reserve(1):
            raise AssertionError
        assert queue.batcher.waiting == 8
    assert queue.batcher.waiting == 0


def test_what_is_queued_when_it_stops_is_worked_off() -> None:
    queue = Queue(max_batch=2)
    backbone = queue.models["plain"].captioner.encoder.backbone
    backbone.gate.clear()
    queue.batcher.start()
    futures = [queue.submit() for _ in range(5)]
    stopping = threading.Thread(target=queue.batcher.stop)
    stopping.start()
    backbone.gate.set()
    stopping.join(20)
    assert all(future.result(0).log_probs for future in futures)


def test_after_stop_nothing_is_taken() -> None:
    queue = Queue()
    queue.batcher.start()
    assert queue.submit().result(20)
    queue.batcher.stop()
    with pytest.raises(StoppingError):
        queue.submit()
    with pytest.raises(StoppingError), queue.batcher.reserve(1):
        raise AssertionError
    assert (queue.batcher.queued, queue.batcher.waiting) == (0, 0)


class StopsMeanwhile(Service):
    """A server that is told to stop while it decodes a picture."""

    async def _view(self, model: LoadedModel, upload: Upload) -> Pixels:
        view = await super()._view(model, upload)
        self.batcher.stop()
        return view


def test_a_request_that_comes_too_late_is_503() -> None:
    batcher = Batcher(max_waiting=8)
    batcher.start()
    service = StopsMeanwhile(tiny_models(), batcher, Limits())
    form = Form([Upload("a.png", picture(0))], {})
    with ThreadPoolExecutor(1) as thread:  # another test's event loop may run in this one

        def ask() -> None:
            thread.submit(lambda: asyncio.run(service.caption(form))).result(20)

        with pytest.raises(Problem, match="the server is stopping") as meanwhile:
            ask()
        with pytest.raises(Problem, match="the server is stopping") as afterwards:
            ask()
    assert meanwhile.value.status == afterwards.value.status == 503
    assert afterwards.value.headers == {"Retry-After": "5"}
    assert batcher.waiting == 0
    service.stop()
