"""Quantities of Kubernetes as numbers."""

import re

from components import typed

_PARTS = re.compile(r"([\d.]+)([eE][+-]?\d+)?(.*)")
_DECIMAL, _BINARY = "kMGTPE", "KMGTPE"
_FACTORS = {
    "": 1.0,
    "m": 1e-3,
    **{letter: 1000.0**power for power, letter in enumerate(_DECIMAL, 1)},
    **{f"{letter}i": 1024.0**power for power, letter in enumerate(_BINARY, 1)},
}


def number(quantity: str) -> float:
    """The value of a quantity that `typed.QUANTITY` takes: 4, 0.5, 500m, 16Gi, 2e3."""
    match = _PARTS.fullmatch(quantity)
    assert match and typed.QUANTITY.fullmatch(quantity), f"{quantity} was checked when the file was read"
    amount, exponent, suffix = match.groups("")
    return float(amount + exponent) * _FACTORS[suffix]
