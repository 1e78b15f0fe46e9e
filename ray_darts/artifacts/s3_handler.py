"""A bucket read by pyarrow through the S3 client of the store: credentials are renewed, and requests sent again.

Every read is a signed request of its own, so hours of reads outlive any one set of credentials. Nothing is written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NoReturn, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
from botocore.config import Config
from botocore.session import UNSIGNED

from ray_darts.artifacts.objects import Conflict
from ray_darts.artifacts.s3 import access_of, all_pages, make_client
from ray_darts.artifacts.s3_requests import Requests
from ray_darts.config.operation import StoreSettings
from ray_darts.errors import ConfigError, MissingObject, StoreDenied, StoreError

_PATIENCE_S = 300.0
"""A read of an object that was found goes on through an outage of so long: a search waits for it."""

_Answer = TypeVar("_Answer")


class S3Handler(pafs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """All buckets of the service that `settings` name; without credentials it asks as nobody, for public buckets.

    Paths are `bucket/key`. What the service refuses is an OSError that names the key, and the right that is missing.
    An object that is replaced after it was listed is refused, not mixed with the old one.
    """

    def __init__(self, settings: StoreSettings, client: Any) -> None:
        self._settings = settings
        self._own_client: Any | None = client
        self._known: dict[str, Mapping[str, Any]] = {}
        self._asking: dict[tuple[str, float], Requests] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For other processes of this node: they make a client of their own."""
        return {**self.__dict__, "_own_client": None, "_asking": {}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Handler) and self._settings == other._settings

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.__class__)

    @property
    def client(self) -> Any:
        """Of this process. Raises: ConfigError."""
        if self._own_client is None:
            self._own_client = reading_client(self._settings)
        return self._own_client

    def get_type_name(self) -> str:
        return "s3"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        folder = selector.base_dir.rstrip("/") + "/"
        found, folders = [], set()
        for path, entry in self._listed(folder):
            below = path[len(folder) :]
            if "/" in below and not selector.recursive:
                folders.add(folder + below.partition("/")[0])
            elif below and not path.endswith("/"):
                self._known[path] = entry
                found.append(_file_info(path, entry))
        if not found and not folders and not selector.allow_not_found:
            raise FileNotFoundError(f"there is no {selector.base_dir}")
        return found + [pafs.FileInfo(path, pafs.FileType.Directory) for path in sorted(folders)]

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(self._open(path), mode="r")

    def open_input_stream(self, path: str) -> pa.PythonFile:
        return self.open_input_file(path)

    def _open(self, path: str) -> io.RawIOBase:
        entry = self._known.get(path)
        if entry is None:
            entry = self._head(path)
            if entry is None:
                raise FileNotFoundError(f"there is no {path}")
            self._known[path] = entry
        return S3Object(lambda start, stop: self._range(path, entry, start, stop), int(entry["Size"]))

    def _range(self, path: str, entry: Mapping[str, Any], start: int, stop: int) -> bytes:
        request = {**self._address(path), "Range": f"bytes={start}-{stop - 1}", "IfMatch": entry["ETag"]}

        def read() -> bytes:
            body = self.client.get_object(**request)["Body"]
            with body:
                return bytes(body.read())

        content = self._ask("get", path, read, patience_s=_PATIENCE_S)
        if len(content) != stop - start:
            raise OSError(f"{path}: {len(content)} bytes came of {stop - start}: the service ignores ranges")
        return content

    def _info(self, path: str) -> pafs.FileInfo:
        refusal: OSError | None = None
        try:
            entry = self._known.get(path) or (self._head(path) if path.partition("/")[2] else None)
        except PermissionError as error:  # of a folder, where a policy allows only the objects in it
            entry, refusal = None, error
        if entry is not None:
            self._known[path] = entry
            return _file_info(path, entry)
        for _ in self._listed(path.rstrip("/") + "/"):
            return pafs.FileInfo(path, pafs.FileType.Directory)
        if refusal is not None:
            raise refusal
        return pafs.FileInfo(path, pafs.FileType.NotFound)

    def version(self, path: str) -> str:
        """Another text once the object was replaced."""
        self._info(path)
        return str(self._known[path]["ETag"])

    def _head(self, path: str) -> Mapping[str, Any] | None:
        """Of an object; None where there is none."""
        try:
            answer = self._ask("get", path, partial(self.client.head_object, **self._address(path)))
        except FileNotFoundError:
            return None
        return {"Size": answer["ContentLength"], "LastModified": answer["LastModified"], "ETag": answer["ETag"]}

    def _listed(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(path, entry of the listing) of every object whose path begins with `folder`."""
        bucket, _, prefix = folder.partition("/")
        place = {"Bucket": bucket, "Prefix": prefix, **self._owner()}

        def page_of(token: Mapping[str, str]) -> dict[str, Any]:
            return self._ask("list", folder, partial(self.client.list_objects_v2, **place, **token))

        try:
            for page in all_pages(page_of, f"s3://{bucket} lists {prefix}"):
                for entry in page.get("Contents", []):
                    yield f"{bucket}/{entry['Key']}", entry
        except StoreError as error:
            raise OSError(str(error)) from error

    def _address(self, path: str) -> dict[str, str]:
        bucket, _, key = path.partition("/")
        return {"Bucket": bucket, "Key": key, **self._owner()}

    def _owner(self) -> dict[str, str]:
        owner = self._settings.expected_bucket_owner
        return {} if owner is None else {"ExpectedBucketOwner": owner}

    def _ask(self, right: str, path: str, request: Callable[[], _Answer], patience_s: float = 0.0) -> _Answer:
        bucket, _, key = path.partition("/")
        try:
            return self._requests(bucket, patience_s).ask(right, key, request)
        except MissingObject as error:
            raise FileNotFoundError(str(error)) from error
        except StoreDenied as error:
            raise PermissionError(str(error)) from error
        except Conflict as error:
            raise OSError(f"{path} was replaced after it was listed: begin again") from error
        except (StoreError, ConfigError) as error:
            raise OSError(str(error)) from error

    def _requests(self, bucket: str, patience_s: float) -> Requests:
        """Kept, so that an outage is reported once."""
        found = self._asking.get((bucket, patience_s))
        if found is None:
            settings = self._settings.model_copy(update={"retry_s": max(self._settings.retry_s, patience_s)})
            found = self._asking[bucket, patience_s] = Requests(settings, f"s3://{bucket}")
        return found

    def _refuse(self, *arguments: object) -> NoReturn:
        raise NotImplementedError("data are only read")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse


def reading_client(settings: StoreSettings) -> Any:
    """An S3 client of this process; its chain of credentials renews them. Raises: ConfigError."""
    client = make_client(settings, "data.path")
    if access_of(client) is None:
        return make_client(settings, "data.path", Config(signature_version=UNSIGNED))
    return client


class S3Object(io.RawIOBase):
    """The bytes of one object of `size` bytes; `read_range(start, stop)` reads some."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range, self._size, self._position = read_range, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._position + size, self._size)
        if stop <= self._position:
            return b""
        content = self._read_range(self._position, stop)
        self._position = stop
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _file_info(path: str, entry: Mapping[str, Any]) -> pafs.FileInfo:
    changed: datetime = entry["LastModified"]
    return pafs.FileInfo(path, pafs.FileType.File, size=int(entry["Size"]), mtime=changed)
