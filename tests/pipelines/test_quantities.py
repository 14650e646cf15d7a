"""Quantities of Kubernetes as numbers."""

import pytest

from pipelines.quantities import number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("500m", 0.5),
        ("2k", 2e3),
        ("16Gi", 16 * 2.0**30),
        ("3M", 3e6),
        ("2e3", 2e3),
        ("2E-1", 0.2),
        ("2E", 2e18),
        ("2Ei", 2 * 2.0**60),
    ],
)
def test_a_quantity_is_a_number(text: str, value: float) -> None:
    assert number(text) == value


def test_what_was_not_checked_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="4 GB was checked"):
        number("4 GB")
