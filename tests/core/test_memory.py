"""The garbage collector rests while a command starts, and works again before the command does."""

import gc
import subprocess
import sys

from showtell.core.memory import paused_collector

CODE = """
import gc
{before}
from showtell.collector import pause_collector
from showtell.runtime import choose_runtime
pause_collector()
resting = not gc.isenabled()
choose_runtime("cpu")
print(resting, gc.isenabled(), gc.get_freeze_count() > 1000)
"""


def told(before: str) -> str:
    command = [sys.executable, "-c", CODE.format(before=before)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_it_rests_until_a_runtime_is_chosen() -> None:
    assert told("") == "True True True"


def test_who_turned_it_off_finds_it_off() -> None:
    assert told("gc.disable()") == "True False False"


def test_it_rests_for_a_while() -> None:
    assert gc.isenabled()
    with paused_collector():
        with paused_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_stays_is_not_looked_through_again() -> None:
    before = gc.get_freeze_count()
    with paused_collector(all_stays=True):
        kept = [[number] for number in range(1000)]
    assert gc.get_freeze_count() >= before + len(kept)
    assert gc.isenabled()
    gc.unfreeze()
