"""The demo from two fresh clones: the same bytes. tests/test_main_job.py does it at the debug preset."""

from pathlib import Path

import pytest

from tests.fresh_clones import DATA, TRAINING, make_clone, make_origin, result, start

pytestmark = pytest.mark.soak


def test_two_fresh_clones_make_the_same_demo(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    origin = make_origin(tmp_path / "origin")
    wanted = [(["preset=demo"], (*DATA, *TRAINING))]
    going = [start(make_clone(origin, tmp_path / name), wanted) for name in ("a", "another")]
    (first,), (second,) = (result(process) for process in going)
    assert {step: made["digest"] for step, made in first.items()} == {
        step: made["digest"] for step, made in second.items()
    }
