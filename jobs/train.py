"""`ray-darts train` as the entry point of a Ray job.

ray job submit --working-dir . -- python jobs/train.py EXP --preset cifar10 --store s3://bucket/prefix
"""

from __future__ import annotations

import sys

from ray_darts.cli.app import app

if __name__ == "__main__":
    app(["train", *sys.argv[1:]])
