"""What the tests of the page share: two tiny models, a server in a thread, photos."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_visit import Visit, visit
from tiny_server import GatedBackbone, gated_encoder, page_of, tiny_captioner

from showtell.encoders.encoder import Encoder
from showtell.server.models import LoadedModel


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The models'; its backbone has a gate."""
    return gated_encoder()


@pytest.fixture(scope="session")
def models(encoder: Encoder) -> dict[str, LoadedModel]:
    """One that attends and one that does not, which know nothing."""
    looks = tiny_captioner(
        "attention", encoder, "decoder.attention_size=8", "decoding.min_length=3"
    )
    tells = tiny_captioner("show_tell", encoder, "decoding.min_length=3")
    return {"looks": LoadedModel("looks", looks), "tells": LoadedModel("tells", tells)}


@pytest.fixture(scope="session")
def url(models: dict[str, LoadedModel]) -> Iterator[str]:
    """Of the page."""
    with page_of(models) as found:
        yield found


@pytest.fixture
def gate(encoder: Encoder) -> Iterator[GatedBackbone]:
    """What no picture gets through while its ``gate`` is cleared; open in the end."""
    backbone = encoder.backbone
    assert isinstance(backbone, GatedBackbone)
    yield backbone
    backbone.gate.set()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two photos, each with a shape of its own, and a broken one."""
    import skimage

    folder = tmp_path_factory.mktemp("photos")
    bundled = Path(skimage.__file__).parent / "data"
    paths = [folder / "coffee.png", folder / "rocket.jpg", folder / "broken.jpg"]
    for path in paths[:2]:
        shutil.copy(bundled / path.name, path)
    paths[2].write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    return paths


@pytest.fixture
def filled(browser: Any, url: str, photos: list[Path]) -> Iterator[Visit]:
    """The page after the three were dropped and captioned."""
    with visit(browser, url, reduced_motion="reduce") as opened:
        opened.drop(*photos)
        opened.wait_until_done(3)
        yield opened
