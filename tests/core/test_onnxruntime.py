"""That onnxruntime reports nothing, in processes that know nothing of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from showtell.pretrained import shipped_folder

SCRIPT = """
import os, sys, time
from showtell.core.onnxruntime import InferenceSession
assert os.environ.get("ORT_DISABLE_TELEMETRY") == (sys.argv[2] or None)
InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
time.sleep(0.5)
"""


@pytest.mark.parametrize("given", ["", "1"])
def test_nothing_is_kept_in_the_home_folder(tmp_path: Path, given: str) -> None:
    """It would be an identifier, and a list of what was done."""
    folder = shipped_folder("default")
    assert folder is not None
    graph = str(folder / "closer.onnx")
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    if given:
        environment["ORT_DISABLE_TELEMETRY"] = given
    command = [sys.executable, "-c", SCRIPT, graph, given]
    subprocess.run(command, env=environment, check=True)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
