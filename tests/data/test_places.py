"""Where data may lie: a hub, any service that fsspec knows, a file:// URI, the home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from ray_darts.config import load_config
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import load_images
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import open_text
from ray_darts.errors import ConfigError, DataError
from ray_darts.orchestration.data_access import with_absolute_path
from tests.data.decoded import pixels_of_set
from tests.data.files import png, random_pixels, write_class_folders, write_parquet
from tests.data.hub import serving_hub

PIXELS = random_pixels(12)


def write(file: Path) -> Path:
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    return write_parquet(file, encoded, [0, 1] * 6)


def pixels(path: str, source: str = "parquet", **settings: object) -> NDArray[np.uint8]:
    return pixels_of_set(load_images(Images.model_validate({"source": source, "path": path, **settings}), 10**9))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="the extra `hub` is not installed")
def test_a_data_set_is_read_from_a_hub(tmp_path: Path) -> None:
    file = write(tmp_path / "hub" / "data" / "train-00000.parquet")
    write(tmp_path / "hub" / "data" / "test-00000.parquet")
    local = load_images(Images(source="parquet", path=str(file)), 10**9)
    program = f"""
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import load_images
for path, mode in (("", "memory"), ("/data", "mapped"), ("/data", "streamed")):
    settings = Images(
        source="parquet", path="hf://datasets/team/set" + path, loading=mode, cache_path={str(tmp_path / "cache")!r}
    )
    print(load_images(settings, 10**9).digests["data"])
"""
    with serving_hub(tmp_path / "hub", "team/set") as url:
        environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home")}
        ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.stdout.split() == [local.digests["data"]] * 3, ran.stderr


def test_a_scheme_whose_package_is_missing_names_it() -> None:
    with pytest.raises(DataError, match=r"data\.path dropbox://x needs a package \(.*dropbox"):
        pixels("dropbox://x")
    with pytest.raises(DataError, match=r"data\.path nothing://x cannot be reached: .*nothing"):
        pixels("nothing://x")


def test_what_fsspec_knows_is_read() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/texts/train.txt", b"one two\n" * 5)
    try:
        source = open_text(Text(source="files", path="memory://texts"))
        assert list(source.words("train")) == [["one", "two", "<eos>"] * 5]
    finally:
        memory.rm("/texts", recursive=True)


@pytest.mark.parametrize("source", ["folder", "parquet"])
def test_a_file_uri_is_a_path_for_every_source(tmp_path: Path, source: str) -> None:
    place = tmp_path / "a b"
    if source == "folder":
        write_class_folders(place, PIXELS)
    else:
        write(place / "a.parquet")
    assert np.array_equal(pixels(place.as_uri(), source), pixels(str(place), source))
    settings = Images(source="parquet", path=place.as_uri(), test_path=place.as_uri())
    assert (settings.path, settings.test_path) == (str(place), str(place))


def test_the_home_folder_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/caller")
    config = load_config("cifar10", overrides=["data.source=parquet", "data.path=~/data"])
    assert with_absolute_path(config).data.path == "/home/caller/data"
    config = load_config("cifar10", overrides=["data.source=parquet", "data.path=~nobody-of-this-name/x"])
    with pytest.raises(ConfigError, match=r"data\.path ~nobody-of-this-name/x: "):
        with_absolute_path(config)
