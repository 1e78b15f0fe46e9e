"""Formats numbers with units for people: bytes, durations, counts."""

from __future__ import annotations


def counted(number: float, noun: str) -> str:
    """`1, "node"` is `1 node`, `2, "node"` is `2 nodes`."""
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def bytes_text(num_bytes: float) -> str:
    """`1234567` is `1.2 MB`; decimal units, as in the bills of clouds."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000 or unit == "TB":
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    raise AssertionError("the loop returns at its last unit")


def duration_text(seconds: float) -> str:
    """`3725` is `1h02m`, `75` is `1m15s`, `9.4` is `9s`."""
    whole = max(0, round(seconds))
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"
