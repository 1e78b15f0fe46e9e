"""`ray-darts best` as the entry point of a Ray job, for a store that only the cluster can read.

ray job submit --working-dir . -- python jobs/best.py EXP --store s3://bucket/prefix
"""

from __future__ import annotations

import sys

from ray_darts.cli.app import app

if __name__ == "__main__":
    app(["best", *sys.argv[1:]])
