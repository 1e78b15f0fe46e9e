"""Search methods: how architecture parameters mix operations and what they decode to. Plain Python; no torch import."""
