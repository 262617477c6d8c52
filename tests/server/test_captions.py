"""What is asked of ``/v1/captions`` and ``/v1/models``, and what comes back."""

import json

import pytest
from tiny_server import Answer, TinyServer, picture

from showtell.config import DecodingConfig
from showtell.images.open import open_image

PNG, JPEG = picture(0), picture(1, "JPEG")
HALF = PNG[: len(PNG) // 2]


def problem(answer: Answer, status: int, *words: str) -> dict:
    """The details, after checking that they are as RFC 9457 has them."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    details = answer.json
    assert details["type"] == "about:blank"
    assert details["status"] == status
    assert details["title"]
    for word in words:
        assert word in details["detail"]
    return details


def test_pictures_get_the_captions_that_the_captioner_gives(server: TinyServer) -> None:
    files = [picture(n) for n in range(5)]
    answer = server.caption(*files)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["model"] == "plain"
    captioner = server.models["plain"].captioner
    expected = captioner.caption([open_image(data) for data in files])
    assert len({caption.text for caption in expected}) > 1
    for n, (result, caption) in enumerate(zip(answer.json["results"], expected, strict=True)):
        assert (result["index"], result["name"]) == (n, f"{n}.png")
        assert result["caption"] == caption.text
        assert result["words"] == list(caption.words)
        assert result["log_probs"] == pytest.approx(caption.log_probs, abs=1e-3)
        assert result["confidence"] == pytest.approx(caption.confidence, abs=1e-3)
        assert result["log_prob"] == pytest.approx(caption.log_prob, abs=1e-3)
        assert "alternatives" not in result
        assert "attention" not in result


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.usefixtures("without_heif")
def test_heic_without_the_extra_tells_clients_nothing_of_the_machine(server: TinyServer) -> None:
    details = problem(server.caption(("a.heic", HEIC)), 415)
    assert details["detail"] == "a.heic: is HEIC, which this server does not read"


def test_heic(server: TinyServer) -> None:
    pytest.importorskip("pillow_heif")
    problem(server.caption(("a.heic", HEIC)), 422, "a.heic: cannot be decoded: ")


def test_alternatives_and_attention(server: TinyServer) -> None:
    decoding = json.dumps({"beam_size": 5, "num_captions": 3})
    answer = server.caption(PNG, decoding=decoding, attention="true", model="looks")
    assert answer.json["model"] == "looks"
    [result] = answer.json["results"]
    assert len(result["alternatives"]) == 2
    for said in (result, *result["alternatives"]):
        assert said["attention"]["grid"] == [4, 4]
        assert [len(row) for row in said["attention"]["weights"]] == [16] * len(said["log_probs"])


def test_a_broken_picture_has_its_error_in_its_place(server: TinyServer) -> None:
    given = [("a.jpg", JPEG), ("b.txt", b"no picture"), ("c.png", HALF), ("d.png", PNG)]
    answer = server.caption(*given)
    assert answer.status == 200
    results = answer.json["results"]
    assert [result["name"] for result in results] == ["a.jpg", "b.txt", "c.png", "d.png"]
    assert [result.get("error", {}).get("status") for result in results] == [None, 415, 422, None]
    assert "b.txt: is not a picture that can be read" in results[1]["error"]["detail"]
    alone = server.caption(PNG).json["results"][0]
    assert results[3]["caption"] == alone["caption"]


def test_where_all_fail_that_is_the_status(server: TinyServer) -> None:
    problem(server.caption(("b.txt", b"no picture")), 415, "b.txt: is not a picture")
    problem(server.caption(("c.png", HALF)), 422, "c.png: cannot be decoded")
    two = problem(server.caption(b"x", b"y"), 415, "none of 2 pictures")
    assert [result["error"]["status"] for result in two["results"]] == [415, 415]
    problem(server.caption(b"x", HALF), 422)


WRONG = {
    "decoding": {
        "{": "decoding is not JSON",
        "[" * 100_000: "more than 16,384 bytes",
        "[" * 10_000: "decoding",
        "3": "expected a JSON object",
        '{"beam": 3}': "beam: no such setting",
        '{"beam_size": 0}': "beam_size = 0",
        '{"beam_size": NaN}': "not a number in JSON",
        '{"beam_size": 21}': "beam_size = 21: this server's limit is 20",
        '{"beam_size": "21"}': "beam_size = 21: this server's limit is 20",
        '{"beam_size": 101}': "beam_size = 101: this server's limit is 20",
        '{"beam_size": 1e400}': "beam_size",
        '{"method": []}': "method",
        '{"max_length": 100}': "limit is 60",
        '{"required_words": ["dgo"]}': "did you mean 'dog'",
        '{"forbidden_words": ["\\ud800"]}': "",
        '{"seed": 1' + "0" * 5000 + "}": "",
        json.dumps({"forbidden_words": ["dog"] * 51}): "limit is 50",
    },
    "attention": {
        "true": "'show_tell' of 'plain' does not attend",
        "yes": "expected true or false",
    },
    "model": {"plane": "Did you mean 'plain'?"},
    "picture": {"x": "unknown field 'picture'"},
    "image": {"x": "Did you mean 'images'?"},
    "images": {
        "photo.jpg": "'photo.jpg': expected the file of a picture (with curl, -F images=@",
        "": "images is the text '': expected the file",
    },
}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [(name, *item) for name, values in WRONG.items() for item in values.items()],
    ids=lambda value: value[:24],
)
def test_wrong_fields(server: TinyServer, name: str, value: str, words: str) -> None:
    answer = server.caption(PNG, **{name: value})
    assert problem(answer, 413 if len(value) > 16384 else 422, words)


def test_settings_that_no_caption_meets(server: TinyServer) -> None:
    rules = {"method": "greedy", "min_length": 8, "max_length": 8, "no_repeat_ngram": 1}
    forbidden = [f"w{n}" for n in range(12)]
    decoding = json.dumps(rules | {"forbidden_words": forbidden})
    problem(server.caption(PNG, decoding=decoding), 422, "no caption meets the decoding settings")


def test_a_picture_is_needed(server: TinyServer) -> None:
    problem(server.caption(), 422, "no picture")
    problem(server.caption(b""), 415)


def test_samples_follow_the_picture_s_number_alone(server: TinyServer) -> None:
    """Not from what else is in the batch, and as the command line draws them."""
    files = [picture(n) for n in range(6)]
    decoding = json.dumps({"method": "sample", "num_captions": 3, "seed": 7, "temperature": 2.0})
    results = server.caption(*files, decoding=decoding).json["results"]
    settings = DecodingConfig(
        method="sample", num_captions=3, seed=7, temperature=2.0, max_length=8
    )
    captioner = server.models["plain"].captioner
    expected = captioner.caption([open_image(data) for data in files], decoding=settings)
    assert [r["caption"] for r in results] == [caption.text for caption in expected]
    with_broken = [*files[:2], b"broken", *files[3:]]
    again = server.caption(*with_broken, decoding=decoding).json["results"]
    for n in (0, 1, 3, 4, 5):
        assert again[n]["caption"] == results[n]["caption"]
        assert again[n]["alternatives"] == results[n]["alternatives"]


def test_models(server: TinyServer) -> None:
    models = server.ask("/v1/models").json["models"]
    assert [(m["name"], m["attends"], m["default"]) for m in models] == [
        ("plain", False, True),
        ("looks", True, False),
    ]
    assert models[0]["decoder"] == "show_tell"
    assert models[0]["decoding"]["max_length"] == 8


def test_health_page_and_metrics(server: TinyServer) -> None:
    for path in ("/healthz", "/readyz"):
        assert server.ask(path).json == {"status": "ok"}
    page = server.ask("/")
    assert (page.status, page.headers["cache-control"]) == (200, "no-cache")
    assert b"showtell" in page.body
    assert server.ask("/page/index.html").body == page.body
    problem(server.ask("/page/../app.py"), 404)
    problem(server.ask("/page/%2e%2e/app.py"), 404)
    problem(
        server.ask("/nothing"),
        404,
        "there is nothing at /nothing; expected one of GET /openapi.json, ",
    )
    problem(server.ask("/caption"), 404, "POST /v1/chat/completions, GET /v1/models/{name}, ")
    refused = server.ask("/v1/captions")
    problem(refused, 405, "GET /v1/captions: expected POST")
    assert refused.headers["allow"] == "POST"
    before = server.figure("showtell_pictures_total")
    server.caption(PNG, b"x")
    assert server.figure("showtell_pictures_total") == before + 2
    assert server.figure("showtell_pictures_waiting") == 0
    assert server.figure("showtell_upload_bytes") == 0
