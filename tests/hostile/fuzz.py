"""Coverage-guided fuzzing of the parsers (`make fuzz`, outside CI): what it finds becomes a case of the corpus.

    python -m tests.hostile.fuzz records --seconds 600

Needs atheris. Ends with a message and the input in a file where an input breaks what `parsers` says, takes longer than
a second of this instrumented code, or allocates more than 200 MB at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

INSTRUMENTED = ["ray_darts", "tomllib", "json", "ast"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parser")
    arguments.add_argument("--seconds", type=int, default=600)
    given = arguments.parse_args()
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.hostile.parsers import PARSERS

        if given.parser not in PARSERS:
            arguments.error(f"there are {', '.join(PARSERS)}")
        check, seeds = PARSERS[given.parser]
        for seed in seeds:  # imports what is imported late
            check(seed)
    inputs = Path(tempfile.mkdtemp(prefix=f"fuzz-{given.parser}-"))
    for number, seed in enumerate(seeds):
        (inputs / str(number)).write_bytes(seed)
    bounds = ("-timeout=2", "-malloc_limit_mb=200", "-rss_limit_mb=2000", "-max_len=4096")
    options = (f"-max_total_time={given.seconds}", f"-artifact_prefix={inputs}/found-", "-print_final_stats=1", *bounds)
    atheris.Setup([sys.argv[0], *options, str(inputs)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
