"""The server with a captioner that takes whole pictures: batches, its own settings, its limits."""

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tiny_hf
from tiny_server import LOCAL, TinyServer, until

from showtell.inference.backends.hf import HfCaptioner
from showtell.inference.loading import ModelRequest
from showtell.server.limits import Limits
from showtell.server.models import load_models
from showtell.server.run import build_server, listen


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, torchvision_operators: Any
) -> Iterator[TinyServer]:
    folder = tiny_hf.save_captioner("git", tmp_path_factory.mktemp("hf") / "git")
    models = load_models([ModelRequest(f"hf:{folder}", device="cpu", precision="fp32")])
    server = build_server(models, Limits(), LOCAL)
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    until(lambda: server.started)
    yield TinyServer(listener.getsockname()[1], models, server, None)  # type: ignore[arg-type]
    server.should_exit = True
    thread.join()


def files(num: int) -> list[bytes]:
    found = []
    for image in tiny_hf.pictures(num):
        file = io.BytesIO()
        image.save(file, "PNG")
        found.append(file.getvalue())
    return found


def test_many_requests_get_what_the_model_says_alone(server: TinyServer) -> None:
    [model] = server.models.values()
    captioner = model.captioner
    assert isinstance(captioner, HfCaptioner)
    settings = {"max_length": 8}
    expected = [captioner.caption(file, decoding=settings).text for file in files(6)]
    with ThreadPoolExecutor(6) as threads:
        answers = list(
            threads.map(lambda f: server.caption(f, decoding=json.dumps(settings)), files(6))
        )
    assert [answer.json["results"][0]["caption"] for answer in answers] == expected
    together = server.caption(*files(6), decoding=json.dumps(settings)).json
    assert [result["caption"] for result in together["results"]] == expected


def test_samples_of_a_request_do_not_depend_on_others(server: TinyServer) -> None:
    settings = json.dumps({"method": "sample", "max_length": 8, "seed": 3})
    alone = server.caption(*files(3), decoding=settings).json["results"]
    with ThreadPoolExecutor(4) as threads:
        many = list(threads.map(lambda _: server.caption(*files(3), decoding=settings), range(4)))
    for answer in many:
        assert answer.json["results"] == alone


def test_what_it_cannot_do_is_a_422(server: TinyServer) -> None:
    for fields, said in (
        ({"decoding": '{"forbidden_words": ["dog"]}'}, "forbidden_words = dog has no meaning"),
        ({"attention": "true"}, "does not attend"),
    ):
        answer = server.caption(files(1)[0], **fields)
        assert answer.status == 422
        assert said in answer.json["detail"]


def test_it_is_listed(server: TinyServer) -> None:
    [model] = server.ask("/v1/models").json["models"]
    assert (model["name"], model["decoder"], model["encoder"]) == ("git", "git", "hf")
    assert model["attends"] is False and model["crop"] is None
