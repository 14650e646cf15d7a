"""Each of the injected faults is caught by the rule that names it and by no other; clean data raises nothing."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.collect.step import Parameters as Collection
from components.collect.step import run as collect
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


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Three collections of scripted demonstrations, of another seed each."""
    folders = {}
    for seed in (1, 2, 3):
        folders[seed] = tmp_path_factory.mktemp("simulated") / "set"
        folders[seed].mkdir()
        collect({}, folders[seed], Collection(episodes=4, image_size=64, depth=False, seed=seed), Silent())
    return folders


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulated_data_raises_nothing(seed: int, simulated: dict[int, Path], tmp_path: Path) -> None:
    verdict = check(simulated[seed], tmp_path / "verdict")
    assert (verdict["findings"], verdict["episodes_usable"]) == ([], 4)


def test_faults_in_simulated_data_are_caught(simulated: dict[int, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(simulated[1], tmp_path / "set"))
    (path,) = root.glob("data/*/*.parquet")
    table = pq.read_table(path)
    owner = table["episode_index"].to_numpy()
    state, action = (np.stack(table[key].to_pylist()).astype(np.float32) for key in ("observation.state", "action"))
    state[owner == 0] *= 180 / np.pi
    action[np.flatnonzero(owner == 1)[30], 2] += 0.25
    state[owner == 2, 5] += 0.4
    for key, values in (("observation.state", state), ("action", action)):
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 14)
        table = table.set_column(table.column_names.index(key), key, column)
    pq.write_table(table, path)
    found = [(each["episode"], each["rule"]) for each in check(root, tmp_path / "verdict")["findings"]]
    assert [each for each in found if each[0] is not None] == [
        (0, "unit_degrees"),
        (1, "action_spike"),
        (2, "tracking_offset"),
    ]


def test_the_writers_clean_data_raises_nothing(tmp_path: Path) -> None:
    root = write(tmp_path / "set", [make_episode(1, number) for number in range(6)])
    assert check(root, tmp_path / "verdict")["findings"] == []
