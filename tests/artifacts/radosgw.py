"""Ceph's S3 gateway for the tests: one monitor, one OSD in memory and one radosgw on free ports of 127.0.0.1.

Needs Debian's packages radosgw, ceph-mon and ceph-osd, no root and no systemd. `python -m tests.artifacts.radosgw` runs
one by hand until Ctrl-C. Knows no test.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from tests.artifacts.servers import free_port, running, serving

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
ACCESS_KEY = SECRET_KEY = "test"
START_S = 120.0

# One object is one copy; pools are small, so that one OSD holds them all. Nothing listens beyond loopback.
_CONFIG = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
admin socket =
pid file =
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
"""
_KEYS = (
    ("mon.", "mon", "allow *"),
    ("client.admin", "mon", "allow *", "osd", "allow *"),
    ("osd.0", "mon", "allow profile osd", "osd", "allow *"),
)


def absent_programs() -> list[str]:
    """What this machine lacks of the programs that a gateway needs."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextlib.contextmanager
def radosgw(folder: Path) -> Iterator[str]:
    """Run a gateway with its cluster in `folder`, empty, with one user; yields its URL after about 20 s."""
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    mon_port, rgw_port, fsid, osd_uuid = free_port(), free_port(), str(uuid4()), str(uuid4())
    config = folder / "ceph.conf"
    config.write_text(_CONFIG.format(fsid=fsid, mon_port=mon_port, rgw_port=rgw_port, folder=folder))
    keyring, monmap, conf = str(folder / "keyring"), str(folder / "monmap"), ["-c", str(config)]
    (folder / "keyring").touch()
    for name, *caps in _KEYS:
        words = [word for pair in zip(caps[::2], caps[1::2], strict=True) for word in ("--cap", *pair)]
        _run("ceph-authtool", keyring, "--gen-key", "-n", name, *words)
    _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
    _run("ceph-mon", *conf, "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
    with (
        serving(["ceph-mon", *conf, "-i", "a", "-f"], mon_port, folder / "mon.out", start_s=START_S),
        _osd(conf, osd_uuid, folder / "osd.out"),
    ):
        user = ["--uid", "tests", "--display-name", "tests", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        _run("radosgw-admin", *conf, "user", "create", *user)
        gateway = ["radosgw", *conf, "-n", "client.admin", "-f"]
        with serving(gateway, rgw_port, folder / "rgw.out", start_s=START_S):
            yield f"http://127.0.0.1:{rgw_port}"


@contextlib.contextmanager
def _osd(conf: list[str], osd_uuid: str, log: Path) -> Iterator[None]:
    """An OSD of the running monitor; its requests wait until it is up."""
    _run("ceph", *conf, "osd", "new", osd_uuid)
    _run("ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
    with running(["ceph-osd", *conf, "-i", "0", "-f"], log):
        yield


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=START_S)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def main() -> None:
    """Run a gateway in a folder of its own until Ctrl-C or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="radosgw-") as folder,
        radosgw(Path(folder)) as url,
    ):
        access = f"AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}"
        print(f"AWS_ENDPOINT_URL={url} AWS_REGION=us-east-1 {access}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
