"""``torchrun ... -m showtell train``, as a user types it, with two processes on this machine.

tests/training/test_processes.py has the same without the command line.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_shell import SMALL, Shell

pytestmark = pytest.mark.costly


def start(showtell: Shell, *arguments: str | Path) -> subprocess.Popen[str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port)
    return subprocess.Popen(
        [sys.executable, *torchrun, "-m", "showtell", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | showtell.variables,
    )


@pytest.mark.slow(20)
def test_stopped_and_gone_on(showtell: Shell, tmp_path: Path) -> None:
    """The features are made once; SIGTERM to torchrun ends all after the same step."""
    folder = tmp_path / "run"
    base = ("train", "scenes:40", "-o", folder, "--device", "cpu")
    process = start(showtell, *base, *SMALL, "-s", "training.num_epochs=4000")
    log = folder / "training_log.txt"
    while process.poll() is None and not (log.exists() and "Step" in log.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert out == ""
    command = f"torchrun --nproc-per-node 2 -m showtell train scenes:40 -o {folder} --device cpu"
    assert errors.count(f"stopped; to resume: {command} --resume") == 1, errors
    assert errors.count("encoded 50 pictures") <= 1
    assert errors.count("captions of 40 pictures to train on") == 1
    steps = len(log.read_text().splitlines())
    last = json.loads((folder / "last" / "metrics.json").read_text())
    assert (last["step"], last["processes"]) == (steps, 2)
    text = (folder / "config.toml").read_text()
    epochs = last["epoch"] + 2
    (folder / "config.toml").write_text(text.replace("num_epochs = 4000", f"num_epochs = {epochs}"))
    process = start(showtell, *base, "--resume")
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert out.count("best epoch") == 1
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    done = [entry["step"] for entry in entries if "loss" in entry]
    assert done == list(range(1, len(done) + 1))
    assert entries[-1]["epoch"] == epochs


@pytest.mark.slow(20)
def test_an_error_is_said_once(showtell: Shell, tmp_path: Path) -> None:
    """Both processes meet it."""
    process = start(showtell, "train", "scenes:40", "-o", tmp_path / "run", "-s", "decoder.kidn=x")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    said = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(said) == 1
    assert "decoder.kidn: no such" in said[0]
