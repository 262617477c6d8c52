"""Bulk runs with captioners behind servers, as a user starts, stops, kills and resumes them."""

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_shell import Shell
from rogue_server import (
    BROKEN,
    CUT,
    FULL,
    HUGE,
    KEY,
    RUBBISH,
    Deed,
    RogueServer,
    asks_to_wait,
    numbered,
    rogue_server,
)

KINDS = ("openai", "ollama")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RogueServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OLLAMA_API_KEY", KEY)
    with rogue_server() as found:
        yield found


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "cache")


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def name_of(record: dict) -> str:
    return Path(record["path"]).name


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_ends_captioned_or_among_the_failures(
    kind: str, server: RogueServer, shell: Shell, tmp_path: Path
) -> None:
    folder = numbered(tmp_path / "photos", 24)
    fates = {
        1: ([BROKEN] * 9, "500: out of memory"),
        3: ([CUT] * 9, "cut the connection"),
        5: ([RUBBISH] * 9, "not JSON"),
        7: ([HUGE] * 9, "more than 1,048,576 bytes"),
        9: ([Deed(504, b"too slow")] * 9, "504: too slow"),
        11: ([Deed(400, KEY.encode())] * 9, "answers 400: ***"),
    }
    for number, (deeds, _) in fates.items():
        server.deeds[number] = list(deeds)
    for number in (0, 2, 4):
        server.deeds[number] = [asks_to_wait(0.1), BROKEN, CUT][number // 2 : number // 2 + 1]
    server.answer = lambda number: "" if number == 13 else f"The image shows a picture {number}."
    out = tmp_path / "out.jsonl"
    command = ("caption", folder, "-m", f"{kind}:tiny", "-o", out, "--base-url", server.url)
    done = shell(*command, "--retries", "1", "--concurrency", "6", "--price", "2,10")
    assert done.returncode == 0, done.stderr
    records = lines_of(out)
    failures = lines_of(tmp_path / "out.failures.jsonl")
    assert sorted(map(name_of, records + failures)) == [f"{n:03d}.png" for n in range(24)]
    reasons = {name_of(each): each["error"] for each in failures}
    assert reasons.keys() == {f"{n:03d}.png" for n in (*fates, 13)}
    for number, (_, reason) in fates.items():
        assert reason in reasons[f"{number:03d}.png"]
    for record in records:
        number = int(name_of(record)[:3])
        assert record["caption"] == f"A picture {number}."
        assert record["raw"] == f"The image shows a picture {number}."
        assert record["captioner"].startswith(f"{kind}:tiny")
        assert 0 < record["confidence"] < 1
    assert "17 answers, 1,700 tokens in and 119 out, as the server counts; price: 0.0046" in (
        done.stderr
    )
    # Once more: only those that failed are asked about, and they succeed now.
    server.deeds.clear()
    server.seen.clear()
    done = shell(*command)
    assert done.returncode == 0, done.stderr
    assert sorted(server.seen) == [1, 3, 5, 7, 9, 11, 13]
    assert [name_of(each) for each in lines_of(tmp_path / "out.failures.jsonl")] == ["013.png"]
    # Other clean-up makes other captions, so none of these are kept.
    server.seen.clear()
    assert shell(*command, "--prefix", "x ").returncode == 0
    assert len(server.seen) == 24
    assert all(record["caption"].startswith("x ") for record in lines_of(out))
    no_key_in(tmp_path, done.stdout + done.stderr)


def no_key_in(folder: Path, *texts: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    assert not any(KEY in text for text in texts)


@pytest.mark.slow(15)
@pytest.mark.parametrize(
    "kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.costly) for kind in KINDS[1:])]
)
def test_killed_at_random_moments(
    kind: str, server: RogueServer, shell: Shell, tmp_path: Path
) -> None:
    num = 150
    folder = numbered(tmp_path / "photos", num)
    (folder / "broken.png").write_bytes(b"no picture")
    server.delay = 0.03
    chance = random.Random(0)
    for number in range(0, num, 7):
        server.deeds[number] = [chance.choice([BROKEN, CUT, FULL])]
    out = tmp_path / "out.jsonl"
    journal = tmp_path / "out.jsonl.partial"
    command = ("caption", folder, "-m", f"{kind}:tiny", "-o", out, "--base-url", server.url)
    kills, said = 0, ""
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        started = journal.stat().st_size if journal.exists() else 0
        process = shell.start(*command)
        while process.poll() is None:
            if journal.exists() and journal.stat().st_size > started + 2000:
                time.sleep(chance.uniform(0, 0.2))
                break
            time.sleep(0.01)
        kills += process.poll() is None
        stopped = time.monotonic()
        process.send_signal(number)
        said += "".join(process.communicate(timeout=60))
        if number == signal.SIGINT:
            assert time.monotonic() - stopped < 20
            assert "to resume, run the same command again" in said and process.returncode == 130
    assert kills == 3
    done = shell(*command)
    assert done.returncode == 0, done.stderr
    records = lines_of(out)
    assert sorted(map(name_of, records)) == [f"{n:03d}.png" for n in range(num)]
    assert all(record["caption"] == f"picture {int(name_of(record)[:3])}" for record in records)
    assert [name_of(each) for each in lines_of(tmp_path / "out.failures.jsonl")] == ["broken.png"]
    # What was asked twice: the requests under way at each stop, and what was tried again.
    retried = len(range(0, num, 7))
    assert len(server.seen) <= num + retried + 3 * 2 * 2 * 8
    no_key_in(tmp_path, said, done.stderr)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_not_there_is_one_line(
    kind: str, server: RogueServer, shell: Shell, tmp_path: Path
) -> None:
    folder = numbered(tmp_path / "photos", 30)
    out = tmp_path / "out.jsonl"
    server.close()
    done = shell("caption", folder, "-m", f"{kind}:tiny", "-o", out, "--base-url", server.url)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "no server listens there" in line and "--base-url" in line
    assert not out.exists() and not (tmp_path / "out.failures.jsonl").exists()


def test_a_server_that_goes_down_leaves_a_run_to_resume(
    server: RogueServer, shell: Shell, tmp_path: Path
) -> None:
    folder = numbered(tmp_path / "photos", 60)
    for number in range(20, 60):
        server.deeds[number] = [BROKEN]
    out = tmp_path / "out.csv"
    command = ("caption", folder, "-m", "openai:tiny", "-o", out, "--base-url", server.url)
    done = shell(*command, "--retries", "0")
    assert done.returncode == 1 and "to resume, run the same command again" in done.stderr
    server.deeds.clear()
    server.seen.clear()
    assert shell(*command, "--retries", "0").returncode == 0
    assert sorted(server.seen) == list(range(20, 60))
    assert len(out.read_text(encoding="utf-8").splitlines()) == 61


def test_a_run_gets_past_pictures_that_the_model_refuses(
    server: RogueServer, shell: Shell, tmp_path: Path
) -> None:
    folder = numbered(tmp_path / "photos", 40)
    for number in range(30):
        server.deeds[number] = [Deed(400, b'{"error": "too dark"}')] * 9
    out = tmp_path / "out.jsonl"
    command = ("caption", folder, "-m", "openai:tiny", "-o", out, "--base-url", server.url)
    first = shell(*command, "--concurrency", "2")
    assert first.returncode == 1 and not out.exists()
    last = first.stderr.splitlines()[-1]
    assert "pictures have all failed" in last and "400: too dark" in last
    assert "check the model and --prompt" in last and "run the same command again" in last
    _, *refused = lines_of(tmp_path / "out.jsonl.partial")
    assert [name_of(each) for each in refused] == [f"{n:03d}.png" for n in range(len(refused))]
    assert 16 <= len(refused) <= 20
    server.seen.clear()
    second = shell(*command, "--concurrency", "2")
    assert second.returncode == 0, second.stderr
    assert sorted(server.seen) == list(range(len(refused), 40))
    assert sorted(map(name_of, lines_of(out))) == [f"{n:03d}.png" for n in range(30, 40)]


def test_a_dry_run_estimates_and_sends_nothing_unless_it_is_told_to(
    server: RogueServer, shell: Shell, tmp_path: Path
) -> None:
    folder = numbered(tmp_path / "photos", 50)
    command = ("caption", folder, "-m", "openai:tiny", "--base-url", server.url, "--dry-run")
    done = shell(*command, "--price", "1,4")
    assert done.returncode == 0, done.stderr
    assert "50 to caption, 0 kept; nothing was written" in done.stderr
    assert f"openai:tiny at {server.url}/v1: 50 pictures" in done.stderr
    # 40 x 40 pixels: 4 tokens by the one rule and 255 by the other, and 10.5 of the prompt.
    assert "about 725 to 13,275 tokens in and 1,250 out, by a rule of thumb" in done.stderr
    assert "price: about 0.0057 to 0.0183" in done.stderr and "--measure 10" in done.stderr
    assert server.seen == []
    done = shell(*command, "--price", "1,4", "--measure", "5")
    assert done.returncode == 0, done.stderr
    assert "about 5,000 tokens in and 350 out, by 5 answers" in done.stderr
    assert "price: about 0.0064\n" in done.stderr and "images/s with 8 requests" in done.stderr
    assert len(server.seen) == 5
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"photos"}


USAGE = ("--price", "--measure", "--replace", "--max-words", "--max-side")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--price", "cheap", "--dry-run"), "--price cheap: expected the price of a million"),
        (("--measure", "3"), "--measure is for --dry-run"),
        (("--max-side", "3"), "--max-side"),
        (("--revision", "main"), "--revision"),
        (("--beam-size", "5"), "beam_size = 5"),
        (("--price", "cheap"), "--price cheap: expected the price of a million"),
        (("--replace", "(=x"), "missing"),
        (("--replace", "x"), "--replace 'x': expected REGEX=TEXT"),
        (("--max-words", "0"), "--max-words"),
    ],
)
def test_wrong_options_are_one_line(
    options: tuple[str, ...], reason: str, server: RogueServer, shell: Shell, tmp_path: Path
) -> None:
    folder = numbered(tmp_path / "photos", 1)
    done = shell("caption", folder, "-m", "openai:tiny", "--base-url", server.url, *options)
    assert done.returncode == (2 if options[0] in USAGE else 1)
    assert reason in done.stderr and "Traceback" not in done.stderr
    assert server.seen == []


def test_the_cost_is_said_on_screen_and_for_files(
    server: RogueServer, shell: Shell, tmp_path: Path
) -> None:
    folder = numbered(tmp_path / "photos", 2)
    command = (
        "caption",
        folder,
        "-m",
        "openai:tiny",
        "--base-url",
        server.url,
        "--price",
        "1000,4000",
    )
    for output in ((), ("-o", tmp_path / "out.jsonl")):
        done = shell(*command, *output)
        assert done.returncode == 0, done.stderr
        # 100 tokens in and 7 out each.
        assert "; price: 0.2560" in done.stderr, output


def test_prices_are_for_servers(shell: Shell, tmp_path: Path) -> None:
    folder = numbered(tmp_path / "photos", 1)
    done = shell("caption", folder, "--price", "1", "--dry-run")
    assert done.returncode == 2 and "--price is for models behind a server" in done.stderr
    done = shell("caption", folder, "--concurrency", "4")
    assert done.returncode == 1 and "--concurrency means nothing to showtell's" in done.stderr
