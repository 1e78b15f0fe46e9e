"""`ray-darts train` as the entry point of a Ray job.

ray job submit --working-dir . -- python jobs/train.py EXP --preset cifar10 --store s3://bucket/prefix
"""

from __future__ import annotations

import sys

from ray_darts.cli.app import app
from ray_darts.cli.job_file import checked_words
from ray_darts.errors import RayDartsError
from ray_darts.exit_codes import exit_code_of_error

if __name__ == "__main__":
    try:
        words = checked_words(sys.argv[1:])
    except RayDartsError as error:
        sys.stderr.write(f"ray-darts: {error}\n")
        sys.exit(exit_code_of_error(error))
    app(["train", *words])
