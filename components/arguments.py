"""Types of command-line options beside Python's own."""

import argparse
import math


def number(text: str) -> float:
    """A finite number: what `float` takes beside, "inf" and "nan", is no time, no share and no price.

    Raises:
        ValueError, argparse.ArgumentTypeError: it is none; argparse names the option.
    """
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not finite: give a number, such as 5 or 0.5")
    return value
