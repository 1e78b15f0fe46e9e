"""Ray: sweeps (Tune), runs (Train), workers. The only layer that imports ray, and the one that joins loop and store.

`search_run` and what it uses know no Ray and run in a plain process too; `worker`, `run`, `sweep` and `resources` do.
"""
