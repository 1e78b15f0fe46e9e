"""Ray: sweeps (Tune), runs (Train), workers. The only layer that imports ray, and the one that joins loop and store.

`run_execution` is one run as every rank executes it; it needs no Ray cluster and runs in a plain process too.
"""
