"""All published traces of an experiment as one `pyarrow.dataset`, read in place from a folder or from S3; all metrics.

Only for finished runs; `export` reads any run through its log. Refuses a file with another schema, naming its key.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_darts.artifacts.experiment import list_runs
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.metrics import metrics_schema
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.s3 import S3Store
from ray_darts.artifacts.s3_files import arrow_filesystem
from ray_darts.artifacts.trace_schema import METHOD_TRACE_SCHEMA, TRACE_SCHEMA
from ray_darts.errors import ConfigError, CorruptObject, MissingObject


def trace_dataset(store: ObjectStore, experiment: str) -> ds.Dataset:
    """The traces of every run that has published one; nothing but footers is read yet.

    Raises: MissingObject when there is none, CorruptObject on another schema.
    """
    keys = [RunKeys(experiment, run).alpha_trace for run in list_runs(store, experiment)]
    published = [key for key in keys if store.exists(key)]
    if not published:
        raise MissingObject(f"no run of {experiment!r} has published its trace", key=f"{experiment}/")
    filesystem, root = _filesystem(store)
    schemas = [_schema(filesystem, f"{root}/{key}", key) for key in published]
    schema = METHOD_TRACE_SCHEMA if METHOD_TRACE_SCHEMA in schemas else TRACE_SCHEMA
    return ds.dataset([f"{root}/{key}" for key in published], schema=schema, filesystem=filesystem)


def published_metrics(store: ObjectStore, experiment: str) -> pa.Table:
    """The metrics of every run that has published them, one row per epoch; a column that a run lacks is null.

    Raises: CorruptObject on a file that is not Parquet.
    """
    tables = [metrics_schema().empty_table()]
    for run in list_runs(store, experiment):
        key = RunKeys(experiment, run).metrics
        try:
            tables.append(pq.read_table(pa.BufferReader(store.get(key).data)))
        except MissingObject:
            continue
        except (pa.ArrowException, OSError) as error:
            raise CorruptObject(f"{key} cannot be read as Parquet: {error}", key=key) from error
    return pa.concat_tables(tables, promote_options="default")


def _schema(filesystem: pafs.FileSystem, path: str, key: str) -> pa.Schema:
    try:
        schema = pq.read_schema(path, filesystem=filesystem)
    except FileNotFoundError as error:
        raise MissingObject(f"there is no {key}", key=key) from error
    except (pa.ArrowException, OSError) as error:
        raise CorruptObject(f"{key} cannot be read as Parquet: {error}", key=key) from error
    for known in (TRACE_SCHEMA, METHOD_TRACE_SCHEMA):
        if schema.equals(known, check_metadata=False):
            return known
    raise CorruptObject(f"{key} has another schema than an alpha trace:\n{schema}", key=key)


def _filesystem(store: ObjectStore) -> tuple[pafs.FileSystem, str]:
    """Where pyarrow finds the objects of a store: a file system and the store's root in it."""
    if isinstance(store, LocalStore):
        return pafs.LocalFileSystem(), store.uri
    if not isinstance(store, S3Store):
        raise ConfigError(f"{store.uri} is neither a folder nor a bucket")
    access = store.access()
    return arrow_filesystem(access, access.endpoint_url, access.region), store.uri.removeprefix("s3://")
