"""Text from outside as messages show it: short, on one line, without control characters."""

from __future__ import annotations

from ray_darts.messages import shown_message, shown_name, shown_value


def test_names_are_short_and_on_one_line() -> None:
    assert shown_name("a b/é") == "a b/é"
    assert shown_name("a\n\x1b[31m") == r"'a\n\x1b[31m'"
    assert shown_name("a" * 5000) == f"{'a' * 120} … {'a' * 80} (5000 characters)"


def test_values_of_any_size_are_shown() -> None:
    assert shown_value("x") == "'x'"
    assert shown_value(10**5000) == "a number of thousands of digits"


def test_messages_keep_their_lines_and_are_cut() -> None:
    assert shown_message("one\ntwo\x07") == "one\ntwo\\x07"
    assert shown_message("x " * 1001) == f"{'x ' * 1000} … and 2 characters more"


def test_what_is_said_of_a_long_path_is_not_cut() -> None:
    assert shown_message(f"no {'a' * 5000} here") == f"no {'a' * 120} … {'a' * 80} (5000 characters) here"
