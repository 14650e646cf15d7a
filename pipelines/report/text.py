"""Numbers as a person reads them, and pictures as text that a page can hold."""

import base64
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_TYPES = {".png": "image/png", ".webp": "image/webp"}


def percent(rate: float | None) -> str:
    return "none" if rate is None else f"{100 * rate:.0f}%"


def points(difference: float) -> str:
    """A difference of rates, with a real minus sign."""
    return f"{100 * difference:+.0f}".replace("-", "−")


def milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float | None) -> str:
    if not count:
        return ""
    power = min(4, int(math.log(count, 1024)))
    return f"{count / 1024**power:.{1 if power > 1 else 0}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def number(value: Any) -> str:
    """Any value of a summary in a few characters."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {number(child)}" for key, child in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(number(child) for child in value) or "none"
    return str(value)


def moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def plain(name: str) -> str:
    return name.replace("_", " ")


def inline_file(path: Path) -> str:
    """A picture file as a data URI."""
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def inline_picture(picture: "np.ndarray") -> str:
    """A picture uint8 [H, W, 3] as a data URI (WebP: a fifth of the PNG's size)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=88, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


FILTERS = {
    "percent": percent,
    "points": points,
    "duration": duration,
    "size": size,
    "number": number,
    "moment": moment,
    "plain": plain,
}
