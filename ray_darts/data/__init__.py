"""Data sets as seeded streams: which samples form a global batch is a pure function of (seed, stream, step).

`ray_darts.data.open.open_data` is the way in. Knows of ranks only "give me shard r of W", and nothing of networks.
"""
