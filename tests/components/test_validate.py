"""Each fault is caught by the rule that names it and by no other; clean data raises nothing; bytes repeat."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components.validate.rules import CONCERNS
from components.validate.step import INPUTS, NAME, Parameters, run, validate
from model.data.quarantine import read_quarantine
from model.errors import UserError
from model.progress import Silent
from tests.fixtures_lerobot import CAMERAS, edit_json, picture, write_dataset, write_depth, write_video
from tests.heard import Heard


@pytest.fixture(scope="module", params=["v2.1", "v3.0"])
def any_version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clean") / "set", request.param, lengths=(8, 9, 7), depth=True)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clean") / "set", "v2.1", lengths=(8, 9, 7), depth=True)


@pytest.fixture
def broken(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "set"))


def check(root: Path, output: Path, **parameters: Any) -> dict[str, Any]:
    output.mkdir(exist_ok=True)
    return validate(root, output, Parameters(**parameters), Silent())


class At:
    """One episode of a v2.1 dataset, to be damaged."""

    def __init__(self, root: Path, episode: int) -> None:
        self.root, self.episode = root, episode
        self.table = root / f"data/chunk-000/episode_{episode:06d}.parquet"

    def video(self, camera: int = 0) -> Path:
        return self.root / f"videos/chunk-000/observation.images.{CAMERAS[camera]}/episode_{self.episode:06d}.mp4"

    def depth(self) -> Path:
        return self.root / f"depth/observation.images.{CAMERAS[1]}/chunk-000/episode_{self.episode:06d}.mkv"

    def rewrite(self, key: str, change: Callable[[np.ndarray], Any]) -> None:
        old = pq.read_table(self.table)
        new = change(np.array(old[key].to_pylist()))
        vector = pa.types.is_nested(old[key].type)
        if pa.types.is_integer(old[key].type):
            column = pa.array(new, pa.int64())
            pq.write_table(old.set_column(old.column_names.index(key), key, column), self.table)
            return
        column = pa.array(
            [list(row) if vector else row for row in new], pa.list_(pa.float32()) if vector else pa.float32()
        )
        pq.write_table(old.set_column(old.column_names.index(key), key, column), self.table)

    def drop(self, key: str) -> None:
        pq.write_table(pq.read_table(self.table).drop_columns([key]), self.table)

    def cut(self, rows: int) -> None:
        pq.write_table(pq.read_table(self.table).slice(0, rows), self.table)

    def damage_video(self) -> None:
        data = bytearray(self.video().read_bytes())
        start = data.find(b"mdat") + 4
        middle = start + (len(data) - start) // 3
        data[middle : middle + 200] = bytes(255 - byte for byte in data[middle : middle + 200])
        self.video().write_bytes(data)

    def empty_task(self) -> None:
        for name in ("tasks", "episodes"):
            path = self.root / f"meta/{name}.jsonl"
            path.write_text(path.read_text().replace(f'"task {self.episode}"', '""'))


def put(values: np.ndarray, place: Any, value: float) -> np.ndarray:
    values[place] = value
    return values


# name of the rule -> (what is done to episode e, words of the sentence)
FAULTS: dict[str, tuple[Callable[[At], Any], str]] = {
    "table_missing": (lambda e: e.table.unlink(), r"its table is missing. Restore the file"),
    "table_unreadable": (
        lambda e: e.table.write_bytes(b"PAR1 nothing"),
        r"data/chunk-000/episode_\d+.parquet cannot be read as Parquet",
    ),
    "column_missing": (lambda e: e.drop("action"), r"its table lacks column 'action'"),
    "wrong_dimensions": (
        lambda e: e.rewrite("observation.state", lambda v: [*v[:4], v[4][:13], *v[5:]]),
        r"frame 4: column 'observation.state' has 13 values, meta/info.json declares 14",
    ),
    "task_missing": (lambda e: e.empty_task(), r"it has no task text. Add its sentence to meta/tasks"),
    "timestamps_not_increasing": (
        lambda e: e.rewrite("timestamp", lambda v: put(v, 5, v[4])),
        r"column 'timestamp' does not increase at 1 frames, the first is frame 5",
    ),
    "timestamp_gap": (
        lambda e: e.rewrite("timestamp", lambda v: v + np.where(np.arange(9) >= 5, 0.1, 0)),
        r"column 'timestamp' jumps 0.2 s at frame 5, 1 times in all; about 1 frames were lost",
    ),
    "frame_index": (
        lambda e: e.rewrite("frame_index", lambda v: put(v, 5, 4)),
        r"column 'frame_index' is wrong in 1 frames, the first is frame 5: 4, it must be 5",
    ),
    "episode_index": (
        lambda e: e.rewrite("episode_index", lambda v: put(v, slice(6, 9), 99)),
        r"column 'episode_index' is wrong in 3 frames, the first is frame 6: 99",
    ),
    "task_changes": (
        lambda e: e.rewrite("task_index", lambda v: put(v, slice(6, 9), 0)),
        r"its task changes 1 times, first at frame 6; it has one instruction",
    ),
    "video_size": (
        lambda e: write_video(e.video(1), [picture(e.episode, f, 1)[:, :32] for f in range(9)], 10),
        r"the video of 'observation.images.cam_left_wrist' is 32x48, its feature declares \[48, 48, 3\]",
    ),
    "video_fps": (
        lambda e: write_video(e.video(1), [picture(e.episode, f, 1) for f in range(9)], 11),
        r"the video of 'observation.images.cam_left_wrist' runs at 11 frames/s, meta/info.json declares 10",
    ),
    "timestamp_spacing": (
        lambda e: e.rewrite("timestamp", lambda v: put(v, 5, v[5] + 0.015)),
        r"column 'timestamp' steps 0.115 s at frame 5; at 10 fps it must be 0.1 s",
    ),
    "timestamp_drift": (
        lambda e: e.rewrite("timestamp", lambda v: v * 1.03),
        r"column 'timestamp' spans 0.824 s for 9 frames; at 10 fps it must be 0.8 s",
    ),
    "video_missing": (
        lambda e: e.video().unlink(),
        r"its video is missing of camera 'observation.images.cam_high'. Restore the file",
    ),
    "video_unreadable": (
        lambda e: e.damage_video(),
        r"the video of 'observation.images.cam_high' \(videos/.*mp4\) cannot be read: frame \d does not decode",
    ),
    "video_frames": (
        lambda e: write_video(e.video(2), [picture(1, frame, 2) for frame in range(8)], 10),
        r"the video of 'observation.images.cam_right_wrist' has 8 frames, the table 9",
    ),
    "not_finite": (
        lambda e: e.rewrite("action", lambda v: put(v, (slice(7, 9), 3), np.nan)),
        r"column 'action' has 2 values that are NaN or infinite, the first at frame 7 in dimension 3 "
        r"\('left_forearm_roll'\). Record the episode again",
    ),
    "depth_missing": (
        lambda e: e.depth().unlink(),
        r"its depth video is missing of camera 'observation.images.cam_left_wrist'. .* remove meta/depth.json",
    ),
    "depth_unreadable": (
        lambda e: e.depth().write_bytes(b"nothing"),
        r"the depth video of 'observation.images.cam_left_wrist' \(depth/.*mkv\) cannot be read",
    ),
    "depth_frames": (
        lambda e: write_depth(e.depth(), [np.full((48, 48), 900, np.uint16)] * 7, 10),
        r"the depth video of 'observation.images.cam_left_wrist' has 7 frames, the table 9",
    ),
}
CLEAN = len(FAULTS)  # the last episode stays as it is


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A dataset with one fault an episode, where its results are, and the verdict."""
    root = tmp_path_factory.mktemp("faulty") / "set"
    tasks = [f"task {episode}" for episode in range(CLEAN + 1)]
    write_dataset(root, "v2.1", lengths=(9,) * (CLEAN + 1), tasks=tasks, depth=True)
    for episode, (inject, _) in enumerate(FAULTS.values()):
        inject(At(root, episode))
    output = tmp_path_factory.mktemp("faulty-verdict")
    return root, output, check(root, output)


def test_clean_data_raises_nothing(any_version: Path, tmp_path: Path) -> None:
    assert (NAME, INPUTS) == ("validate", ("dataset",))
    heard = Heard()
    (tmp_path / "data_docs").mkdir()
    (tmp_path / "data_docs/old.html").write_text("what a killed run left")
    (tmp_path / "verdict.json").write_text("{")
    summary = run({"dataset": any_version}, tmp_path, Parameters(), heard)
    assert summary == {
        "episodes": 3, "usable": 3, "quarantined": 0, "hours": round(24 / 36000, 6), "errors": 0, "warnings": 0,
    }  # fmt: skip
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["findings"] == []
    assert verdict["usable_episodes"] == [0, 1, 2]
    assert verdict["dataset"]["cameras"] == [f"observation.images.{camera}" for camera in CAMERAS]
    assert (verdict["dataset"]["robot"], verdict["dataset"]["depth"]) == ("aloha_sim", True)
    assert verdict["dataset"]["tasks"] == ["lift the cube with the left arm", "lift the cube with the right arm"]
    assert yaml.safe_load((tmp_path / "quarantine.yaml").read_text()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"verdict.json", "quarantine.yaml", "data_docs"}
    assert not (tmp_path / "data_docs/old.html").exists()
    assert heard.updates == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("episode", "rule"), list(enumerate(FAULTS)))
def test_a_fault_is_quarantined_by_the_rule_that_names_it(
    episode: int, rule: str, faulty: tuple[Path, Path, dict[str, Any]]
) -> None:
    root, output, verdict = faulty
    (finding,) = [finding for finding in verdict["findings"] if finding["episode"] == episode]
    assert (finding["rule"], finding["severity"]) == (rule, "error")
    assert finding["message"].startswith(f"episode {episode}")
    assert re.search(FAULTS[rule][1], finding["message"]), finding["message"]
    assert str(root) not in finding["message"]
    entries = yaml.safe_load((output / "quarantine.yaml").read_text())
    (entry,) = [entry for entry in entries if entry["episode"] == episode]
    assert (entry["rule"], entry["evidence"]) == (rule, finding["message"])
    assert entry.get("picture", "") == finding.get("picture", "")


def test_what_has_no_fault_goes_on(faulty: tuple[Path, Path, dict[str, Any]]) -> None:
    _, output, verdict = faulty
    assert verdict["usable_episodes"] == [CLEAN]
    assert read_quarantine(output) == set(range(CLEAN))
    assert {f["rule"] for f in verdict["findings"] if f["episode"] is None} == {"declared_counts"}


def test_a_short_table_breaks_length_and_video_rules(broken: Path, tmp_path: Path) -> None:
    At(broken, 1).cut(1)
    rules = {finding["rule"] for finding in check(broken, tmp_path / "out")["findings"]}
    assert rules == {"too_short", "length", "video_frames", "depth_frames", "declared_counts"}


def test_an_offset_start_is_one_warning_and_keeps_the_episodes(broken: Path, tmp_path: Path) -> None:
    for path in sorted((broken / "data").rglob("*.parquet")):
        old = pq.read_table(path)
        times = pa.array(np.array(old["timestamp"]) + np.float32(0.1), pa.float32())
        pq.write_table(old.set_column(old.column_names.index("timestamp"), "timestamp", times), path)
    verdict = check(broken, tmp_path / "out")
    (finding,) = verdict["findings"]
    assert (finding["rule"], finding["severity"], finding["episode"]) == ("timestamp_offset", "warning", None)
    assert finding["evidence"]["episodes"] == [0, 1, 2]
    assert verdict["episodes_usable"] == 3


def test_another_codec_than_declared_is_one_warning(broken: Path, tmp_path: Path) -> None:
    info = json.loads((broken / "meta/info.json").read_text())
    info["features"]["observation.images.cam_high"]["info"] = {"video.codec": "av1"}
    (broken / "meta/info.json").write_text(json.dumps(info))
    (finding,) = check(broken, tmp_path / "out")["findings"]
    assert (finding["rule"], finding["severity"]) == ("video_codec", "warning")
    assert "the video of 'observation.images.cam_high' is h264, its feature declares av1" in finding["message"]


def test_a_declared_camera_without_files_is_dropped_for_all(broken: Path, tmp_path: Path) -> None:
    info = json.loads((broken / "meta/info.json").read_text())
    info["features"]["observation.images.egoview"] = info["features"]["observation.images.cam_high"]
    (broken / "meta/info.json").write_text(json.dumps(info))
    verdict = check(broken, tmp_path / "out")
    (finding,) = verdict["findings"]
    assert (finding["rule"], finding["severity"]) == ("camera_without_files", "warning")
    assert "camera 'observation.images.egoview' is declared in meta/info.json" in finding["message"]
    assert verdict["episodes_usable"] == 3
    assert len(verdict["dataset"]["cameras"]) == 3


def test_an_absent_wrist_view_is_masked(broken: Path, tmp_path: Path) -> None:
    info = json.loads((broken / "meta/info.json").read_text())
    del info["features"]["observation.images.cam_left_wrist"]
    (broken / "meta/info.json").write_text(json.dumps(info))
    (broken / "meta/depth.json").unlink()
    (finding,) = check(broken, tmp_path / "out")["findings"]
    assert (finding["rule"], finding["severity"], finding["evidence"]) == (
        "view_absent", "warning", {"cameras": ["cam_left_wrist"]},
    )  # fmt: skip


def test_wrong_camera_names_stop_the_dataset_and_name_the_nearest(broken: Path, tmp_path: Path) -> None:
    text = (broken / "meta/info.json").read_text().replace("images.cam_high", "images.camera_high")
    (broken / "meta/info.json").write_text(text)
    folder = broken / "videos/chunk-000/observation.images.cam_high"
    folder.rename(folder.with_name("observation.images.camera_high"))
    with pytest.raises(UserError) as error:
        run({"dataset": broken}, tmp_path, Parameters(), Silent())
    present = ["camera_high", "cam_left_wrist", "cam_right_wrist"]
    assert str(error.value) == (
        "robot 'aloha_sim' needs camera 'observation.images.cam_high', the dataset has "
        + ", ".join(f"'observation.images.{name}'" for name in present)
        + ". Did you mean 'camera_high' as 'cam_high'? Rename the feature in meta/info.json and the folder of its "
        "videos, or name the camera in model/robots/aloha_sim.yaml."
    )
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert (verdict["usable"], verdict["episodes_usable"]) == (False, 0)
    assert "camera_names" in (tmp_path / "data_docs/index.html").read_text()


def test_another_number_of_dimensions_than_the_robots_stops_the_dataset(broken: Path, tmp_path: Path) -> None:
    edit_json(broken / "meta/info.json", robot_type="Unitree_G1_Inspire")
    with pytest.raises(UserError, match=r"'observation.state' has shape \[14\] in meta/info.json, robot 'unitree_g1"):
        run({"dataset": broken}, tmp_path, Parameters(), Silent())


def test_nothing_usable_says_why_and_leaves_the_verdict(broken: Path, tmp_path: Path) -> None:
    shutil.rmtree(broken / "data")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(
        UserError, match=r"none of the 3 episodes is usable: table_missing \(3\). For example, episode 0"
    ):
        run({"dataset": broken}, out, Parameters(), Silent())
    verdict = json.loads((out / "verdict.json").read_text())
    assert (verdict["usable"], verdict["episodes_total"]) == (False, 3)
    assert [entry["episode"] for entry in yaml.safe_load((out / "quarantine.yaml").read_text())] == [0, 1, 2]


@pytest.mark.parametrize("root", ["absent", "empty"])
def test_what_is_no_dataset_is_refused(root: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"/{root} is not a LeRobot dataset: .* Give the folder that holds meta/"):
        check(tmp_path / root, tmp_path / "out")


@pytest.mark.parametrize("values", [{"spacing_tolerance": 0.0}, {"drift_tolerance": 1.5}, {"depth_stride": 0}])
def test_impossible_parameters_are_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(UserError, match=rf"validate.{name} is {values[name]}"):
        Parameters(**values)


def test_equal_data_gives_equal_bytes_wherever_it_lies(
    faulty: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    root, output, _ = faulty
    moved = shutil.copytree(root, tmp_path / "elsewhere/other_name")
    check(moved, tmp_path / "again")
    first, second = (
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (output, tmp_path / "again")
    )
    assert first == second
    assert {"verdict.json", "quarantine.yaml", "data_docs/index.html", "data_docs/values.html"} <= set(first)


def test_data_docs_need_no_network_and_show_the_library_s_results(faulty: tuple[Path, Path, dict[str, Any]]) -> None:
    pages = {path.name: path.read_text() for path in (faulty[1] / "data_docs").iterdir()}
    assert set(pages) <= {f"{name}.html" for name in ("index", *CONCERNS)}
    assert {"schema.html", "timing.html", "pictures.html", "motion.html", "depth.html"} <= set(pages)
    for name, text in pages.items():
        assert "http://" not in text and "https://" not in text and "<script" not in text, name
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert link == "data:," or (faulty[1] / "data_docs" / link).is_file(), (name, link)
    assert "not_finite" in pages["index.html"]
    assert "left_forearm_roll" in pages["index.html"]
    assert "values_not_finite" in pages["values.html"]
    assert "1 unexpected values found" in pages["values.html"]


def test_gr1_keeps_its_episodes_with_the_true_findings(shared: Path, tmp_path: Path) -> None:
    verdict = check(shared / "datasets/gr1_sim_picknplace", tmp_path / "out")
    assert verdict["usable_episodes"] == [0, 1, 2, 3, 4]
    assert [(finding["rule"], finding["severity"]) for finding in verdict["findings"]] == [
        ("layout_path", "warning"),
        ("layout_path", "warning"),
        ("camera_without_files", "warning"),
        ("frame_index_missing", "warning"),
        ("task_not_instruction", "warning"),
        ("timestamp_offset", "warning"),
    ]
    assert verdict["dataset"]["robot"] == "gr1"
    assert len(verdict["dataset"]["tasks"]) == 5


@pytest.mark.slow
def test_g1_keeps_the_four_episodes_that_have_video(shared: Path, tmp_path: Path) -> None:
    verdict = check(shared / "datasets/g1_inspire_bottle", tmp_path / "out")
    assert verdict["usable_episodes"] == [1, 2, 4, 5]
    by_rule: dict[str, list[int | None]] = {}
    for finding in verdict["findings"]:
        by_rule.setdefault(finding["rule"], []).append(finding["episode"])
    assert by_rule == {
        "declared_counts": [None, None],
        "video_missing": [0, 3, 6, 7, 8, 9],
        "table_missing": list(range(10, 100)),
    }
