"""Distributed differentiable architecture search: Ray Train for each run, Ray Tune for the sweep, S3 for the answer.

Importing the package imports nothing heavy; each layer is imported by whoever needs it.
"""

__version__ = "0.2.0.dev0"
