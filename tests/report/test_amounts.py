import pytest

from ray_darts.report.amounts import bytes_text, duration_text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (2.5e9, "2.5 GB"), (7e15, "7000.0 TB")],
)
def test_bytes_in_decimal_units(num_bytes: float, text: str) -> None:
    assert bytes_text(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (9.4, "9s"), (59.6, "1m00s"), (75, "1m15s"), (3725, "1h02m"), (86_400, "1d00h"), (200_000, "2d07h")],
)
def test_durations_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
