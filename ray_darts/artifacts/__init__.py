"""The store: keys, objects, the run log, alpha traces, publications. No torch, no Ray.

Import from the modules: `ray_darts.artifacts.best` must stay importable without pyarrow or boto3.
"""
