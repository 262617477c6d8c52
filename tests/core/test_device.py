"""What to compute on is chosen, said with its reason, and refused where it is not there."""

import subprocess
import sys

import pytest
import torch

from showtell.core.device import Runtime, choose_runtime
from showtell.errors import ConfigError


@pytest.fixture(autouse=True)
def same_threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_auto_says_what_and_why() -> None:
    runtime = choose_runtime()
    line = runtime.describe()
    assert runtime.device in line
    assert runtime.precision in line
    assert "(" in line
    assert "\n" not in line


def test_asked_settings_are_taken() -> None:
    runtime = choose_runtime("cpu", "bf16", threads=1)
    assert (runtime.device, runtime.precision, runtime.threads) == ("cpu", "bf16", 1)
    assert torch.get_num_threads() == 1
    assert "bf16 (as asked" in runtime.describe()


def test_autocast_is_on_for_bf16_alone() -> None:
    left, right = torch.ones(2, 2), torch.ones(2, 2)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with choose_runtime("cpu", precision).autocast():
            assert (left @ right).dtype == dtype


def test_inference_converts_a_weight_once() -> None:
    """Torch's inference_mode would convert it at every use."""
    runtime = Runtime("cpu", "bf16", 1, "", "")
    layer, inputs = torch.nn.Linear(7, 5), torch.randn(2, 7, requires_grad=True)
    with torch.profiler.profile(record_shapes=True) as profile, runtime.inference():
        results = [layer(inputs) for _ in range(3)]
    copies = [e.input_shapes[0] for e in profile.events() if e.name == "aten::copy_"]
    assert copies.count([5, 7]) == 1
    assert not any(result.requires_grad for result in results)
    assert layer(inputs).dtype == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "fp32")],
)
def test_bf16_only_where_the_processor_has_it(
    capabilities: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_runtime("cpu").precision == precision
    asked = choose_runtime("cpu", "bf16")
    assert asked.precision == "bf16"
    slow = "as asked, though this processor has no fast bf16"
    assert asked.precision_reason == ("as asked" if precision == "bf16" else slow)


@pytest.mark.parametrize(
    ("device", "precision", "reason"),
    [
        ("gpu", "auto", "device 'gpu': expected auto, cpu, cuda"),
        ("cuda:x", "auto", "device 'cuda:x': expected"),
        ("cuda:99", "auto", "device 'cuda:99': this"),
        ("cpu", "fp16", "precision 'fp16': expected auto, fp32 or bf16"),
    ],
)
def test_what_cannot_be_is_one_line(device: str, precision: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        choose_runtime(device, precision)
    with pytest.raises(ConfigError, match="threads = 0"):
        choose_runtime("cpu", threads=0)


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, showtell.core.device; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "False"


def test_runtimes_are_values() -> None:
    assert Runtime("cpu", "fp32", 1, "", "") == Runtime("cpu", "fp32", 1, "", "")
