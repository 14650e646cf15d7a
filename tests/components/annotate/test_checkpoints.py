"""Checkpoints of a task from what its demonstrations have in common, as a protocol that scoring reads."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotate.checkpoints import draw_checkpoints, task_name
from components.annotate.episodes import by_episode
from model.data.annotations import write_annotations
from model.errors import UserError
from model.evaluation.protocol import read_protocol
from pipelines.cli import main
from tests.components.annotate.recordings import write_picks
from tests.components.annotate.reviews import FPS, row

PICK = ["reach", "close gripper", "lift"]


def episode(number: int, actions: list[str], **changed: str) -> list[dict]:
    return [row(number, 10 * at, 10 * at + 10, action, **changed) for at, action in enumerate(actions)]


def drawn(*sequences: list[str], **settings: float) -> list[str]:
    rows = [one for number, actions in enumerate(sequences) for one in episode(number, actions)]
    return [one.name for one in draw_checkpoints(by_episode(rows), FPS, **settings)]


def test_what_most_demonstrations_do_in_one_order_are_the_checkpoints() -> None:
    retry = ["reach", "close gripper", "open gripper", "close gripper", "lift"]
    assert drawn(PICK, PICK, retry, ["wait", *PICK], ["hold", "lift", "reach", "close gripper"]) == [
        "reach the cube", "close gripper the cube", "lift the cube",
    ]  # fmt: skip
    assert drawn(PICK, PICK, PICK[:2], PICK[:2], PICK[:2]) == ["reach the cube", "close gripper the cube"]
    assert drawn(PICK, PICK, PICK[:2], PICK[:2], PICK[:2], min_share=0.4)[2] == "lift the cube"


def test_the_longest_sequence_in_common_is_found_whatever_comes_first() -> None:
    """An action out of its place costs itself alone, at the beginning as at the end."""
    early, late = ["push", *PICK], [*PICK, "push"]
    for others in (early, late):
        assert drawn(early, late, others, min_share=1.0) == [
            "reach the cube",
            "close gripper the cube",
            "lift the cube",
        ]


def test_an_action_that_comes_twice_has_two_names() -> None:
    again = [*PICK, "open gripper", *PICK]
    assert drawn(again, again, again)[4:] == ["reach the cube (2)", "close gripper the cube (2)", "lift the cube (2)"]


def test_the_most_frequent_words_name_it_and_the_median_tells_when() -> None:
    texts = ("lift the cube", "raise the cube", "raise the cube")
    rows = [row(number, 0, 20 + 10 * number, "lift", sub_task=text) for number, text in enumerate(texts)]
    (found,) = draw_checkpoints(by_episode(rows), FPS)
    assert (found.name, found.share, found.seconds) == ("raise the cube", 1.0, 30 / FPS)


def test_the_arm_counts() -> None:
    rows = episode(0, PICK) + episode(1, PICK, arm="left") + episode(2, PICK, arm="left")
    with pytest.raises(UserError, match="no action is common to 80% of 3 episodes"):
        draw_checkpoints(by_episode(rows), FPS)
    with pytest.raises(UserError, match="2 annotated episodes: checkpoints need 3"):
        drawn(PICK, PICK)


@given(st.lists(st.lists(st.sampled_from([*PICK, "carry"]), min_size=1, max_size=9), min_size=3, max_size=6))
def test_each_checkpoint_is_in_order_in_as_many_episodes_as_it_says(sequences: list[list[str]]) -> None:
    try:
        names = drawn(*sequences, min_share=0.7)
    except UserError:
        return
    assert len(set(names)) == len(names)
    actions = [name.rpartition(" the cube")[0] for name in names]
    for action in actions:
        assert sum(action in sequence for sequence in sequences) >= 0.7 * len(sequences)
    assert any(_is_within(actions, sequence) for sequence in sequences)


def _is_within(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(one in rest for one in part)


def test_the_command_writes_a_protocol_that_scoring_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_picks(tmp_path / "dataset", 6, cameras=("cam_high",))
    rows = [one for number in range(6) for one in episode(number, PICK)]
    write_annotations(tmp_path, rows)
    given = ["annotate", "checkpoints", str(dataset), str(tmp_path), "--output", str(tmp_path / "own.yaml")]
    assert main(given) == 0
    assert "lift the red cube with the left arm (3 episodes): reach the cube" in capsys.readouterr().out
    protocol = read_protocol(tmp_path / "own.yaml")
    assert protocol.benchmark == "own" and protocol.robots == ("aloha_sim",)
    task = protocol.tasks["lift_the_red_cube_with_the_right_arm"]
    assert task.instruction == "lift the red cube with the right arm"
    assert task.checkpoints == ("reach the cube", "close gripper the cube", "lift the cube")
    assert main(given) == 2 and "nothing is written over" in capsys.readouterr().err
    write_annotations(tmp_path, rows[:6])
    assert main([*given[:-1], str(tmp_path / "few.yaml")]) == 2
    assert "with the left arm': 1 annotated episodes" in capsys.readouterr().err


def test_a_name_is_made_of_the_instructions_words() -> None:
    assert task_name("Lift the  red cube, please!") == "lift_the_red_cube_please"
