"""`python -m ray_darts` runs the command line, for environments whose scripts are not on the PATH."""

from __future__ import annotations

from ray_darts.cli import main

if __name__ == "__main__":
    main()
