"""A whole experiment at the size of thousands of runs, played in virtual time: the package's own driver, log and store
code, with simulated machines and workers. `benchmarks/scale.py` is the command."""
