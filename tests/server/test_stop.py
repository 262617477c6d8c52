"""The command itself, as a process: it starts, answers, and stops when all is answered."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_shell import Shell
from tiny_server import Answer, TinyServer, picture, until

from showtell.errors import install_line
from showtell.server.run import OPEN_TO_ALL

TOKEN = "0123456789abcdef"


@contextmanager
def serving(novice: Path, *options: str, **variables: str) -> Iterator[Any]:
    """The process and a client of it; killed in the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "showtell", "serve", "-m", str(novice), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        if "0.0.0.0" in options and not variables:
            assert line == f"{OPEN_TO_ALL}\n"
            line = process.stderr.readline()
        more = ", and at this machine's other addresses" if "0.0.0.0" in options else ""
        found = re.fullmatch(rf"Serving novice at http://127\.0\.0\.1:(\d+){more}\n", line)
        assert found, line + process.stderr.read()
        server = TinyServer(int(found[1]), {}, None, None)  # type: ignore[arg-type]
        until(lambda: _is_ready(server))
        yield process, server
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _is_ready(server: TinyServer) -> bool:
    try:
        return server.ask("/readyz").status == 200
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_when_it_stops(novice: Path, number: signal.Signals) -> None:
    answers: list[Answer] = []
    with serving(novice) as (process, server):
        pictures = [picture(n) for n in range(16)]
        threads = [
            threading.Thread(target=lambda: answers.append(server.caption(*pictures)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        until(lambda: server.figure("showtell_pictures_waiting") > 32)
        process.send_signal(number)
        for thread in threads:
            thread.join(60)
        assert [answer.status for answer in answers] == [200] * 4
        assert all(len(answer.json["results"]) == 16 for answer in answers)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
        with pytest.raises(ConnectionRefusedError):
            server.ask("/healthz")


def test_token_from_the_environment_or_a_file(novice: Path, tmp_path: Path) -> None:
    with serving(novice, SHOWTELL_TOKEN=TOKEN) as (_, server):
        assert server.ask("/v1/models").status == 401
        answer = server.ask("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})
        assert [found["name"] for found in answer.json["models"]] == ["novice"]


@pytest.mark.parametrize("variables", [{}, {"SHOWTELL_TOKEN": TOKEN}])
def test_a_server_that_all_may_use_says_so(novice: Path, variables: dict[str, str]) -> None:
    with serving(novice, "--host", "0.0.0.0", **variables) as (process, server):
        assert server.ask("/v1/models").status == (401 if variables else 200)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def refused(showtell: Shell, *options: str | Path) -> str:
    result = showtell("serve", *options)
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--device", "gpu"],
        ["--device", "cuda:first"],
        ["--precision", "int8"],
        ["--port", "70000"],
        ["--port", "http"],
        ["--max-pictures", "0"],
        ["--max-megabytes", "-1"],
        ["--max-megapixels", "151"],
        ["--max-queue", "many"],
        ["--cors", "example.org"],
        ["--cors", "https://example.org/"],
        ["--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(tmp_path: Path, options: list[str]) -> None:
    result = Shell(tmp_path)("serve", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert options[0] in result.stderr
    assert "Traceback" not in result.stderr


def test_what_cannot_be_served_is_said_in_one_line(
    novice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    showtell = Shell(tmp_path)
    assert "no model 'nothing'" in refused(showtell, "-m", "nothing", "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(showtell, "-m", novice, "--port", str(port))
        assert f"cannot serve at 127.0.0.1 port {port}: address already in use" in said
        assert f"; another: --port {port + 1 if port < 65_535 else port - 1}\n" in said
    assert "cannot serve at nowhere.invalid" in refused(
        showtell, "-m", novice, "--host", "nowhere.invalid"
    )
    token = tmp_path / "token"
    assert "no such file" in refused(showtell, "-m", novice, "--token-file", token).lower()
    for text in ("short", "with spaces in the middle of it", "\xe9" * 20, ""):
        token.write_text(text)
        assert "expected a token of 16 or more" in refused(
            showtell, "-m", novice, "--token-file", token
        )
    monkeypatch.setenv("SHOWTELL_TOKEN", "")
    assert "SHOWTELL_TOKEN: expected a token" in refused(showtell, "-m", novice)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "showtell.server.run", raising=False)
    monkeypatch.setenv("SHOWTELL_TOKEN", TOKEN)
    assert install_line("serve") in refused(showtell, "-m", novice)
