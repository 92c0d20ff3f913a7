"""Tables for a terminal."""

from condconv_mlx.tables import aligned


def test_numbers_to_the_right():
    assert aligned([("a", "1"), ("long", "23")]) == ["  a      1", "  long  23"]


def test_columns_to_the_left_and_no_spaces_behind():
    rows = [("a", "1", "x"), ("long", "23", "why")]
    assert aligned(rows, left=(0, -1), indent="") == ["a      1  x", "long  23  why"]
