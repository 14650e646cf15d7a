"""Each of the injected faults is caught by the rule that names it and by no other; clean data raises nothing."""

from pathlib import Path
from typing import Any

import pytest

from components.validate.step import Parameters, validate
from model.progress import Silent
from tests.components.validate_faults import FAULTS, Made, make_episode, write

CLEAN = 14


def check(root: Path, output: Path, **parameters: Any) -> dict[str, Any]:
    output.mkdir(exist_ok=True)
    return validate(root, output, Parameters(**parameters), Silent())


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The verdict about one dataset: `CLEAN` episodes, then one episode a fault."""
    folder = tmp_path_factory.mktemp("faulty")
    clean = [make_episode(0, number) for number in range(CLEAN)]
    episodes: list[Made] = list(clean)
    for number, fault in enumerate(FAULTS.values(), start=CLEAN):
        made = make_episode(0, number, still=fault.still)
        made.others = clean
        fault.apply(made)
        episodes.append(made)
    return check(write(folder / "set", episodes), folder / "verdict")


def test_there_are_forty_kinds() -> None:
    assert len(FAULTS) >= 40


@pytest.mark.parametrize(("number", "name"), list(enumerate(FAULTS, start=CLEAN)))
def test_a_fault_is_caught_by_the_rule_that_names_it(number: int, name: str, faulty: dict[str, Any]) -> None:
    found = [finding["rule"] for finding in faulty["findings"] if finding["episode"] == number]
    assert found == [FAULTS[name].rule]


def test_the_clean_episodes_among_them_go_on(faulty: dict[str, Any]) -> None:
    assert faulty["usable_episodes"][:CLEAN] == list(range(CLEAN))
    assert [finding for finding in faulty["findings"] if finding["episode"] is None] == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clean_data_raises_nothing(seed: int, tmp_path: Path) -> None:
    root = write(tmp_path / "set", [make_episode(seed, number) for number in range(6)])
    assert check(root, tmp_path / "verdict")["findings"] == []
