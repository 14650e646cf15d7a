"""`lingbot annotate review`, `export` and `import`, as a person calls them."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from components import state
from model.data.annotations import read_annotations, write_annotations
from pipelines.cli import main
from tests.components.annotate.review.reviewing import LONG, Annotated, annotate


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Annotated:
    return annotate(tmp_path_factory.mktemp("review_command"), episodes=2)


@pytest.fixture
def sources(annotated: Annotated) -> list[str]:
    root = Path(annotated.dataset.root)
    return [str(root), str(root.parent / "annotations")]


def submitted(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Episode 1 as somebody submitted it, its second action renamed."""
    (result,) = [each["predictions"][0]["result"] for each in tasks if each["data"]["lingbot"]["episode"] == 1]
    for entry in result:
        if entry["id"] == "segment-1" and entry["type"] == "timelinelabels":
            entry["value"]["timelinelabels"] = ["grasp"]
    annotation = {"completed_by": 3, "result": result, "updated_at": "2026-11-23T03:04:05.6Z"}
    return [{**each, "annotations": [annotation] if each["data"]["lingbot"]["episode"] == 1 else []} for each in tasks]


def test_what_was_done_in_label_studio_is_in_the_review(
    sources: list[str], annotated: Annotated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import av

    out, reviewed = tmp_path / "studio", tmp_path / "reviewed.parquet"
    assert main(["annotate", "export", *sources, "--output", str(out)]) == 0
    assert "2 episodes" in capsys.readouterr().out
    tasks = json.loads((out / "tasks.json").read_text())
    assert [task["data"]["video"] for task in tasks] == [
        f"/data/local-files/?d=studio/clips/episode_{episode:06d}.mp4" for episode in (0, 1)
    ]
    for episode in (0, 1):
        with av.open(str(out / f"clips/episode_{episode:06d}.mp4")) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
            assert video.streams.video[0].average_rate == annotated.dataset.info.fps
        assert len(frames) == 60 and frames[0].shape == (240, 720, 3)
        red = [float(frame[..., 0].mean()) for frame in frames]  # the recording's red says the time, its green which
        assert all(abs(value - 4 * number) < 12 for number, value in enumerate(red))
        assert abs(float(frames[30][..., 1].mean()) - 37 * episode) < 12

    (tmp_path / "done.json").write_text(json.dumps(submitted(tasks)))
    command = ["annotate", "import", sources[0], str(tmp_path / "done.json"), "--output", str(reviewed)]
    assert main(command) == 0
    assert "2 episodes in" in (said := capsys.readouterr().out) and ", 1 changed or accepted" in said
    rows = read_annotations(reviewed)
    assert [row for row in rows if row["episode"] == 0] == [row for row in annotated.rows if row["episode"] == 0]
    done = [row for row in rows if row["episode"] == 1]
    assert [row["atomic_action"] for row in done] == ["reach", "grasp", "lift"]
    assert [row["source"] for row in done] == ["template", "Label Studio user 3", "template"]
    assert {row["review_state"] for row in done} == {"accepted"}
    assert {row["reviewed_at"] for row in done} == {"2026-11-23T03:04:05+00:00"}

    assert main(command) == 2, "the review is not what was exported any more"
    assert "episodes 1 were changed there" in capsys.readouterr().err
    assert read_annotations(reviewed) == rows
    assert main([*command, "--replace"]) == 0
    assert read_annotations(reviewed) == rows


def test_the_address_of_a_clip_is_one_whatever_the_folder_is_called(sources: list[str], tmp_path: Path) -> None:
    out = tmp_path / "round 2 + more"
    assert main(["annotate", "export", *sources, "--output", str(out), "--no-clips"]) == 0
    (first, _) = json.loads((out / "tasks.json").read_text())
    assert first["data"]["video"] == "/data/local-files/?d=round%202%20%2B%20more/clips/episode_000000.mp4"


def test_a_reviewer_without_a_login_name_is_asked_for_one(
    sources: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    assert main(["annotate", "review", *sources]) == 2
    assert "--reviewer is empty: give the name" in capsys.readouterr().err


def test_an_export_writes_over_nothing(sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["annotate", "export", *sources, "--output", str(tmp_path), "--no-clips", "--video-url", "https://v/"]
    assert main(command) == 0
    assert json.loads((tmp_path / "tasks.json").read_text())[1]["data"]["video"] == "https://v/episode_000001.mp4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.xml", "tasks.json"]
    capsys.readouterr()
    assert main(command) == 2
    assert "holds tasks.json already" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_is_served_until_it_is_stopped(sources: list[str], tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text('{"episodes": [1], "control": []}')
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "annotate",
        "review",
        *sources,
        "--reviewer",
        "kim",
        "--port",
        "0",
    ]
    options = ["--output", str(tmp_path / "reviewed.parquet"), "--sample", str(tmp_path / "sample.json")]
    with subprocess.Popen([*command, *options], cwd=state.checkout(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first, second, third = (process.stdout.readline().strip() for _ in range(3))
            assert first == "review of dataset by kim: 0 of 1 episodes accepted"
            assert second.startswith(f"saved in {tmp_path}/reviewed.parquet")
            address = re.fullmatch(r"open (http://127\.0\.0\.1:\d+)", third)
            assert address, third
            assert "<title>Review of annotations</title>" in httpx.get(address[1], timeout=LONG).text
            listed = httpx.get(f"{address[1]}/api/episodes", params={"order": "sample"}, timeout=LONG).json()
            assert [row["episode"] for row in listed["episodes"]] == [1]
            shown = httpx.get(f"{address[1]}/api/episodes/1", timeout=LONG).json()
            rows = [{**row, "review_state": "accepted"} for row in shown["rows"]]
            body = {"base": shown["revision"], "rows": rows}
            assert httpx.put(f"{address[1]}/api/episodes/1", json=body, timeout=LONG).status_code == 200
            process.send_signal(signal.SIGINT)
            assert process.stdout.read().strip() == (
                f"1 episodes accepted; they are used with --set annotate.reviewed={tmp_path}/reviewed.parquet"
            )
            assert process.wait(LONG) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reviewer", " "], "--reviewer is empty"),
        (["--output", "reviewed.csv"], r"must end with \.parquet"),
        (["--sample", "none.json"], "--sample 'none.json' cannot be read"),
        (["--port", "-1"], "port -1 of 127.0.0.1 cannot be had"),
    ],
)
def test_mistakes_are_named(
    options: list[str], message: str, sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["annotate", "review", *sources, *options]) == 2
    assert re.search(message, error := capsys.readouterr().err), error


def test_a_port_in_use_a_sample_of_others_and_no_segments_are_named(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review, output = ["annotate", "review", sources[0]], ["--output", str(tmp_path / "reviewed.parquet")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([*review, sources[1], *output, "--port", str(taken.getsockname()[1])]) == 2
    assert "is in use: give another with --port" in capsys.readouterr().err
    (tmp_path / "sample.json").write_text('{"episodes": [1, 8]}')
    assert main([*review, sources[1], *output, "--sample", str(tmp_path / "sample.json")]) == 2
    assert "has episode 8, which has no segments here" in capsys.readouterr().err
    write_annotations(tmp_path, [])
    assert main([*review, str(tmp_path), *output]) == 2
    assert "nothing to review" in capsys.readouterr().err
    assert main([*review, *output]) == 2
    assert "ANNOTATIONS is missing" in capsys.readouterr().err
