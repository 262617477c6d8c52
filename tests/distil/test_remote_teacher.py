"""A teacher behind a server: its settings, what is told of its price, and what is recorded."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_shell import Shell
from rogue_server import KEY, RogueServer, numbered, rogue_server
from tiny_run import Notes
from tiny_teacher import STUDENT, register

from showtell.bulk.estimate import Price
from showtell.distil.request import DistilRequest, FilterConfig
from showtell.distil.run import distil
from showtell.distil.teacher import ask
from showtell.errors import CheckpointError
from showtell.inference.captioner import Captioner
from showtell.inference.specs import BackendSettings

register()
SAID = "a plain picture with number"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RogueServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with rogue_server() as found:
        found.answer = lambda number: f"{SAID} {number}."
        yield found


def request(server: RogueServer, folder: Path, pictures: Path, **changes: Any) -> DistilRequest:
    settings = {"base_url": server.url, "max_side": 64, "prompt": "alt", "concurrency": 3}
    return DistilRequest(
        "openai:tiny",
        [str(pictures)],
        folder,
        overrides=(*STUDENT, "training.num_epochs=1"),
        filters=FilterConfig(near_duplicates=False),
        device="cpu",
        settings=BackendSettings.of(settings | changes.pop("settings", {})),
        **changes,
    )


def test_a_teacher_is_asked_as_the_user_wants_and_the_card_says_how(
    server: RogueServer, tmp_path: Path
) -> None:
    pictures, report = numbered(tmp_path / "pictures", 24), Notes()
    wanted = request(
        server, tmp_path / "run", pictures, cleaning={"max_words": 5}, price=Price.of("2,10")
    )
    made = distil(wanted, report)
    assert made is not None
    assert sorted(server.seen) == list(range(24)) and server.most <= 3
    assert all("alt text" in json.dumps(body["messages"]) for body in server.bodies)
    told = "\n".join(report.notes)
    assert "tiny (of unknown size) is asked about 24 pictures, 1 caption each" in told
    # 40 x 40 pixels: 4 tokens by the one rule and 255 by the other; the prompt has 39.5.
    assert f"openai:tiny at {server.url}/v1: 24 pictures" in told and "price: about 0.0" in told
    assert told.index("price: about") < told.index("24 answers, 2,400 tokens in")
    assert "; price: 0.0" in told
    card = (made.model / "MODEL_CARD.md").read_text()
    assert "- Teacher: openai:tiny (size unknown)" in card
    assert "- Asked with: prompt = 'alt', max_side = 64, max_words = 5" in card
    data = (tmp_path / "run" / "data" / "captions.jsonl").read_text()
    assert data.count(f'["{SAID}."]') == 24  # the number would be the sixth word
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in kept)


def test_other_settings_are_another_teacher_and_another_address_is_not(
    server: RogueServer, tmp_path: Path
) -> None:
    pictures = numbered(tmp_path / "pictures", 24)
    wanted = request(server, tmp_path / "run", pictures)
    assert distil(wanted, Notes()) is not None
    server.seen.clear()
    with pytest.raises(CheckpointError, match=r"teacher's\.prompt was 'alt' and is 'short'"):
        distil(request(server, tmp_path / "run", pictures, settings={"prompt": "short"}), Notes())
    with pytest.raises(CheckpointError, match=r"teacher's\.max_words was None and is 3"):
        distil(replace(wanted, cleaning={"max_words": 3}), Notes())
    report, moved = Notes(), server.url.replace("127.0.0.1", "localhost")
    elsewhere = request(
        server, tmp_path / "run", pictures, settings={"base_url": moved, "concurrency": 9}
    )
    assert distil(elsewhere, report) is not None
    assert sum("made before" in note for note in report.notes) == 8 and server.seen == []


def test_after_ctrl_c_nothing_more_is_paid_for_and_nothing_twice(
    server: RogueServer, tmp_path: Path
) -> None:
    files = sorted(numbered(tmp_path / "pictures", 60).iterdir())
    answered: list[int] = []

    def answer(number: int) -> str:
        answered.append(number)
        if len(answered) == 6:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)  # until the main thread has seen it
        return f"{SAID} {number}."

    server.answer = answer
    teacher = Captioner.load("openai:tiny", settings={"base_url": server.url, "concurrency": 3})
    folder = tmp_path / "captions"
    given = {"decoding": teacher.decoding, "report": Notes()}
    assert ask(teacher, files, folder, **given) is None
    # Those under way, and what took the places of two of them before the signal came through.
    assert 6 <= len(server.seen) <= 6 + 2 * 3
    _, *kept = (folder / "captions.jsonl.partial").read_text().splitlines()
    assert len(kept) == len(server.seen)
    assert ask(teacher, files, folder, **given) == {"captioned": 60, "failed": 0}
    assert sorted(server.seen) == list(range(60))


def test_a_dry_run_tells_the_price_and_asks_nothing(server: RogueServer, tmp_path: Path) -> None:
    pictures, shell = numbered(tmp_path / "pictures", 24), Shell(tmp_path / "cache")
    command = ("distil", "openai:tiny", pictures, "-o", tmp_path / "run", "--base-url", server.url)
    done = shell(*command, "--dry-run", "--price", "1,4", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    # 40 x 40 pixels: 4 tokens by the one rule and 255 by the other, and 10.5 of the prompt.
    assert "about 348 to 6,372 tokens in and 600 out, by a rule of thumb" in done.stdout
    assert "price: about 0.0027 to 0.0088" in done.stdout
    assert server.seen == [] and not (tmp_path / "run").exists()
    done = shell(*command, "--dry-run", "--price", "1,4", "--measure", "2")
    assert "about 2,400 tokens in" in done.stdout and "by 2 answers" in done.stdout
    assert len(server.seen) == 2
    done = shell("distil", "hf:nobody/knows", pictures, "-o", tmp_path / "run", "--dry-run")
    assert "hf:nobody/knows is asked about 24 pictures" in done.stdout  # nothing is downloaded


@pytest.mark.parametrize(
    ("teacher", "options", "reason"),
    [
        ("openai:tiny", ("--price", "cheap"), "--price cheap: expected the price of a million"),
        ("openai:tiny", ("--measure", "3"), "--measure is for --dry-run"),
        ("openai:tiny", ("--max-side", "3"), "--max-side"),
        ("openai:tiny", ("--revision", "main"), "--revision means nothing"),
        ("openai:tiny", ("--yes",), "--yes is for models of the hub"),
        ("default", ("--price", "1"), "--price is for models behind a server"),
        ("default", ("--concurrency", "4"), "--concurrency means nothing to showtell's"),
    ],
)
def test_wrong_options_are_one_line(
    teacher: str, options: tuple[str, ...], reason: str, server: RogueServer, tmp_path: Path
) -> None:
    pictures, shell = numbered(tmp_path / "pictures", 3), Shell(tmp_path / "cache")
    address = () if teacher == "default" else ("--base-url", server.url)
    done = shell("distil", teacher, pictures, "-o", tmp_path / "run", *address, *options)
    assert done.returncode in (1, 2)
    *_, last = done.stderr.strip().splitlines()
    assert reason in last and "Traceback" not in done.stderr
    assert server.seen == []
