"""Inputs with references: a part of them that speaks for the whole, and values in their places."""

import pytest

from kilter.data.referenced import Referenced, spread


def test_a_part_is_spread_over_the_whole() -> None:
    items = [Referenced(str(place)) for place in range(10)]
    assert [item.source for item in spread(items, 5)] == ["0", "2", "4", "6", "8"]
    assert spread(items, 99) == items
    with pytest.raises(ValueError, match="count must be at least 1"):
        spread(items, 0)


def test_every_place_of_a_value_is_filled() -> None:
    item = Referenced("", values={"NAME": "The Mill", "NEAR": "Burger King"})
    assert item.filled("NAME is near NEAR; NAME is cheap.") == "The Mill is near Burger King; The Mill is cheap."
    assert Referenced("x").filled("NAME") == "NAME"
