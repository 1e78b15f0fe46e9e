"""Data sets as seeded streams: which samples form a global batch is a pure function of (seed, stream, step).

`ray_darts.data.open.open_data` is the entry point. Of ranks it knows only "shard r of W", of networks nothing.
"""
