"""The page of an experiment in a bucket on a real server: the same as from a folder, and published so that it opens."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import boto3

from ray_darts.artifacts.open import open_store
from ray_darts.report.page.making import PageMaker, publish_report
from tests.artifacts.buckets import fresh_uri, settings
from tests.report.page.experiments import EXPERIMENT, whole_experiment


def test_a_page_is_made_from_and_published_in_a_bucket(s3_server: str, aws: None, tmp_path: Path) -> None:
    bucket, folder = open_store(fresh_uri(), settings(s3_server)), open_store(str(tmp_path))
    for store in (bucket, folder):
        whole_experiment(store, 2)
    from_bucket, from_folder = (PageMaker(store, EXPERIMENT).make().data for store in (bucket, folder))
    for run, same in zip(from_bucket["runs"], from_folder["runs"], strict=True):
        assert {**run, "terms": [], "commits": None} == {**same, "terms": [], "commits": None}
    key = publish_report(bucket, EXPERIMENT)
    assert key == f"{EXPERIMENT}/report.html"
    place = urlsplit(bucket.uri)
    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    head = client.head_object(Bucket=place.netloc, Key=f"{place.path.lstrip('/')}/{key}")
    client.close()
    assert head["ContentType"] == "text/html; charset=utf-8"
    assert bucket.get(key).data.endswith(b"</html>\n")
