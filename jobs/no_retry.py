"""Run a job's command for a scheduler that retries FAILED jobs without reading exit codes (a KubeRay RayJob).

python jobs/no_retry.py --codes 2,76,77,130 -- python jobs/search.py jobs/cifar10.toml --store s3://bucket/prefix

If the command ends with one of these codes, the job stops itself: STOPPED jobs are not retried.
"""

from __future__ import annotations

import argparse
import sys

from ray_darts.orchestration.submit import run_without_retry

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", required=True, type=lambda text: {int(code) for code in text.split(",")})
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    sys.exit(run_without_retry(arguments.command, arguments.codes))
