"""What a first caption does not wait for: modules that take long to import and are not needed."""

import subprocess
import sys
from pathlib import Path

from cli_shell import Shell
from PIL import Image

HEAVY = (
    *(
        "torch._dynamo",
        "torch._inductor",
        "torch.distributed.fsdp",
        "torch.onnx._internal.exporter",
    ),
    *("sympy", "matplotlib", "scipy", "skimage", "tensorboard", "transformers", "tokenizers"),
    *("timm", "huggingface_hub", "pycocoevalcap"),
    *("showtell.training", "showtell.metrics", "showtell.report", "showtell.publish"),
)


def test_captioning_imports_nothing_that_it_does_not_need(
    showtell: Shell, model: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "photo.jpg")
    code = (
        "import sys\n"
        f"sys.argv = {['showtell', 'caption', str(tmp_path / 'photo.jpg'), '-m', str(model)]!r}\n"
        "from showtell.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
