"""Texts by a model behind a chat endpoint that fails in every way it can, asked for real over HTTP."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.annotate import step
from components.annotate.models import Reply
from components.annotate.prompts import Question, episode_question
from components.annotate.vocabulary import Vocabulary
from components.annotate.writing import write_texts
from model.data.annotations import read_annotations
from model.errors import UserError
from model.progress import Silent
from tests.components.annotate.chat_server import KEY, ChatServer, running, valid_answer
from tests.components.annotate.recordings import no_quarantine, picking, write_picks
from tests.components.waiting import LONG, wait_for

SEGMENTS = 3  # of a pick


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("picks")
    return {"dataset": write_picks(root / "dataset", 4), "verdict": no_quarantine(root / "verdict")}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def parameters(server: ChatServer, **changed: Any) -> step.Parameters:
    given = {"writer": "endpoint", "endpoint": server.url, "model": "qwen3-vl", "frames": 2, "timeout_seconds": 30.0}
    return step.Parameters(**given | changed)


def annotate(
    inputs: dict[str, Path], output: Path, given: step.Parameters
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    output.mkdir()
    summary = step.run(inputs, output, given, Silent())
    return summary, read_annotations(output)


def test_every_segment_and_episode_gets_the_models_text(inputs: dict[str, Path], tmp_path: Path) -> None:
    with running(ChatServer()) as server:
        summary, rows = annotate(inputs, tmp_path / "out", parameters(server, price_input=2.0, price_output=10.0))
    assert len(rows) == 4 * SEGMENTS
    assert {(row["task"], row["sub_task"], row["verb"], row["objects"], row["source"]) for row in rows} == {
        ("move the red cube to the left", "pick up the red cube with the right arm", "pick up", "red cube", "qwen3-vl")
    }
    assert summary["requests"] == 4 * (SEGMENTS + 1) and summary["input_tokens"] == 16_000
    assert summary["cost"] == pytest.approx((16_000 * 2 + 800 * 10) / 1e6)


def test_a_request_shows_all_views_with_their_times_and_the_joints(inputs: dict[str, Path], tmp_path: Path) -> None:
    with running(ChatServer()) as server:
        annotate(inputs, tmp_path / "out", parameters(server, concurrency=1))
        body = next(one for one in server.bodies if "reach" in one["messages"][1]["content"][-1]["text"])
    parts = body["messages"][1]["content"]
    captions = [part["text"] for part in parts if part["type"] == "text"][:-1]
    assert [caption.split(" at ")[0] for caption in captions] == ["cam_high", "cam_left_wrist", "cam_right_wrist"] * 2
    assert captions[0].endswith("at 0.20 s") and captions[-1].endswith("at 1.45 s")  # 0.2 s to 1.5 s at 20 Hz
    pictures = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert len(pictures) == len(captions)
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2]))).size == (16, 16)
    assert "right arm moved" in parts[-1]["text"] and "its gripper went from 100% to" in parts[-1]["text"]
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["sub_task", "verb", "objects"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "the endpoint answers 429"),
        ("500", "the endpoint answers 500"),
        ("hang", "no answer within 2 s"),
        ("drip", "no answer within 2 s"),
        ("truncated", "invalid answer"),
        ("schema", "invalid answer"),
        ("nonsense", "invalid answer"),
    ],
)
def test_a_fault_that_passes_is_asked_again(inputs: dict[str, Path], tmp_path: Path, fault: str, reason: str) -> None:
    server = ChatServer(hang_seconds=LONG)
    server.script = [fault]
    timeout_seconds = 2.0 if "within 2 s" in reason else LONG
    with running(server):
        given = parameters(server, concurrency=1, timeout_seconds=timeout_seconds)
        summary, rows = annotate(inputs, tmp_path / "out", given)
    again = summary["requests"] - 4 * (SEGMENTS + 1)
    assert summary["failed_requests"] == {reason: again}
    # A machine that stalls keeps other answers from coming within 2 s, too: those are asked for again as well.
    assert again == 1 or (timeout_seconds == 2.0 and again > 1)
    assert {row["review_state"] for row in rows} == {"unreviewed"}


def test_prose_around_an_answer_costs_no_second_request(inputs: dict[str, Path], tmp_path: Path) -> None:
    server = ChatServer()
    server.always = "prose"
    with running(server):
        summary, _ = annotate(inputs, tmp_path / "out", parameters(server))
    assert summary["requests"] == 4 * (SEGMENTS + 1)


def test_the_model_is_told_what_was_wrong(inputs: dict[str, Path], tmp_path: Path) -> None:
    server = ChatServer()
    server.script = ["schema"]
    with running(server):
        annotate(inputs, tmp_path / "out", parameters(server, concurrency=1))
    last = [body["messages"][1]["content"][-1]["text"] for body in server.bodies]
    assert ["the JSON is not of the schema" in text for text in last].count(True) == 1


def test_retry_after_is_waited_for(inputs: dict[str, Path], tmp_path: Path) -> None:
    server = ChatServer()
    server.script = ["429 for long"]
    with running(server):
        started = time.monotonic()
        annotate(inputs, tmp_path / "out", parameters(server))
    assert time.monotonic() - started >= 1.0


def test_no_more_requests_at_once_than_allowed(inputs: dict[str, Path], tmp_path: Path) -> None:
    with running(ChatServer(seconds=0.05, company=3)) as server:
        annotate(inputs, tmp_path / "out", parameters(server, concurrency=3))
    assert server.most_at_once == 3


def test_nonsense_about_one_episode_marks_it_and_the_rest_goes_on(inputs: dict[str, Path], tmp_path: Path) -> None:
    server = ChatServer()
    server.nonsense_about = "left arm'"  # the task text of episodes 1 and 3
    with running(server):
        summary, rows = annotate(inputs, tmp_path / "out", parameters(server, attempts=2, failed_share=0.5))
    failed = {row["episode"] for row in rows if row["review_state"] == "failed"}
    assert failed == {1, 3} and summary["episodes_failed"] == 2
    reasons = {row["reason"] for row in rows if row["episode"] in failed}
    assert all(
        "2 attempts, the last: there is no JSON object in 'I see a robot in a kitchen.'" in one for one in reasons
    )
    assert {row["source"] for row in rows if row["episode"] in failed} == {"template"}
    assert {row["source"] for row in rows if row["episode"] not in failed} == {"qwen3-vl"}


def test_more_failures_than_the_budget_end_the_step_and_keep_the_answers(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    server = ChatServer()
    server.nonsense_about = "left arm'"
    with running(server):
        given = parameters(server, attempts=2, failed_share=0.25)
        with pytest.raises(UserError, match=r"2 of 4 episodes got no text, more than annotate.failed_share 0.25"):
            annotate(inputs, tmp_path / "out", given)
        server.nonsense_about = None
        before = dict(server.answered)
        summary, _ = annotate(inputs, tmp_path / "again", given)
    assert not before.keys() & server.answered.keys() or summary["answers_from_cache"] > 0
    assert summary["episodes_failed"] == 0


def test_a_second_run_asks_nothing(inputs: dict[str, Path], tmp_path: Path) -> None:
    with running(ChatServer()) as server:
        _, first = annotate(inputs, tmp_path / "one", parameters(server))
        summary, second = annotate(inputs, tmp_path / "two", parameters(server))
    assert summary["requests"] == 0 and summary["answers_from_cache"] == 4 * (SEGMENTS + 1)
    assert first == second


def test_another_vocabulary_is_another_question(inputs: dict[str, Path], tmp_path: Path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text("verbs: [pick up]\n")
    with running(ChatServer()) as server:
        annotate(inputs, tmp_path / "one", parameters(server))
        summary, _ = annotate(inputs, tmp_path / "two", parameters(server, vocabulary=str(words)))
    assert summary["answers_from_cache"] == 0


def test_a_wrong_key_is_named_at_once(inputs: dict[str, Path], tmp_path: Path) -> None:
    with running(ChatServer(key=KEY)) as server, pytest.raises(UserError, match="answers 401 to the key"):
        annotate(inputs, tmp_path / "out", parameters(server, concurrency=1))
    assert not server.asked


def test_the_key_comes_from_the_environment(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with running(ChatServer(key=KEY)) as server:
        summary, _ = annotate(inputs, tmp_path / "out", parameters(server, api_key_variable="MY_KEY"))
    assert summary["episodes_failed"] == 0


def test_no_endpoint_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    given = step.Parameters(
        writer="endpoint", endpoint="http://127.0.0.1:9/v1", model="m", attempts=2, failed_share=1.0
    )
    refused = r"^http://127.0.0.1:9/v1 cannot be reached: Connect.*, in 2 attempts: set annotate.endpoint to where"
    with pytest.raises(UserError, match=refused):
        annotate(inputs, tmp_path / "out", given)
    with pytest.raises(UserError, match="give both"):
        step.Parameters(writer="endpoint", endpoint="http://127.0.0.1:9/v1")


def test_an_unknown_model_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    with running(ChatServer()) as server, pytest.raises(UserError, match="404 for the model 'gpt'"):
        annotate(inputs, tmp_path / "out", parameters(server, model="gpt"))


def test_an_episode_whose_frames_cannot_be_read_is_marked(tmp_path: Path) -> None:
    dataset = write_picks(tmp_path / "dataset", 2)
    video = sorted((dataset / "videos").rglob("*.mp4"))[0]
    video.write_bytes(b"no video")
    given = {"dataset": dataset, "verdict": no_quarantine(tmp_path / "verdict")}
    with running(ChatServer()) as server:
        _, rows = annotate(given, tmp_path / "out", parameters(server, failed_share=1.0))
    failed = [row for row in rows if row["review_state"] == "failed"]
    assert failed and all(str(video.name) in row["reason"] or "episode" in row["reason"] for row in failed)


def test_a_table_that_cannot_be_read_is_named_before_most_is_asked(tmp_path: Path) -> None:
    dataset = write_picks(tmp_path / "dataset", 4)
    (path,) = (dataset / "data").rglob("*.parquet")
    table = pq.read_table(path)
    actions = table["action"].to_pylist()
    actions[-1][0] = float("nan")  # of the last episode
    column = pa.array(actions, table.schema.field("action").type)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), path)
    given = {"dataset": dataset, "verdict": no_quarantine(tmp_path / "verdict")}
    with (
        running(ChatServer(seconds=1.0)) as server,
        pytest.raises(UserError, match="episode 3 frame 59: column 'action'"),
    ):
        annotate(given, tmp_path / "out", parameters(server, concurrency=1))
    assert sum(server.answered.values()) < 3 * (SEGMENTS + 1)


def test_the_first_episode_is_asked_about_while_the_next_is_cut(home: Path) -> None:
    asked = threading.Event()

    class Answers:
        name, concurrency = "qwen3-vl", 4

        async def ask(self, question: Question, complaint: str) -> Reply:
            asked.set()
            return Reply(text=json.dumps(valid_answer("episode")))

        async def close(self) -> None:
            pass

    def episodes() -> Iterator[int]:
        yield 0
        assert asked.wait(60)
        yield 1

    def questions_of(episode: int) -> list[Question]:
        return [
            episode_question(
                "the whole episode", length=episode + 1, task="", summary="", frames=(), vocabulary=Vocabulary()
            )
        ]

    given = step.Parameters(writer="endpoint", endpoint="http://127.0.0.1:9/v1", model="qwen3-vl")
    written, counts = write_texts(episodes(), 2, questions_of, Answers(), given, Silent())
    assert sorted(written) == [0, 1] and counts.requests == 2


def test_an_episode_in_which_nothing_moves_is_not_asked_about(tmp_path: Path) -> None:
    def at_rest(arm: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        state, action, pose = picking(arm)
        frames = np.zeros(40, int) if arm == "left" else np.arange(60)
        return state[frames], action[frames], pose[frames]

    dataset = write_picks(tmp_path / "dataset", 2, motion=at_rest)
    with running(ChatServer()) as server:
        summary, rows = annotate(
            {"dataset": dataset, "verdict": no_quarantine(tmp_path / "verdict")}, tmp_path / "out", parameters(server)
        )
    assert {row["episode"] for row in rows} == {0} and summary["episodes_without_segments"] == 1
    assert summary["requests"] == SEGMENTS + 1 and summary["episodes_failed"] == 0


def kill_and_resume(folder: Path, episodes: int, seconds: float) -> tuple[ChatServer, dict[str, Any], float]:
    """Annotates in a process that is killed in the middle, then here; the server, the summary, the last run's time."""
    dataset = write_picks(folder / "dataset", episodes, ("cam_high",))
    inputs = {"dataset": dataset, "verdict": no_quarantine(folder / "verdict")}
    server = ChatServer(seconds=seconds, fault_share=0.1, hang_seconds=9.0)
    with running(server):
        given = parameters(server, timeout_seconds=3.0, attempts=8)
        (folder / "killed").mkdir()
        program = (
            "from pathlib import Path\n"
            "from components.annotate import step\n"
            "from model.progress import Silent\n"
            f"inputs = {{'dataset': Path({str(inputs['dataset'])!r}), 'verdict': Path({str(inputs['verdict'])!r})}}\n"
            f"step.run(inputs, Path({str(folder / 'killed')!r}), step.{given!r}, Silent())\n"
        )
        process = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": os.getcwd()})
        wanted = episodes * (SEGMENTS + 1) // 2
        wait_for(lambda: sum(server.answered.values()) >= wanted or process.poll() is not None, f"{wanted} answers")
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(seconds + 0.1)  # answers on their way to the dead reach nobody
        answered = set(server.answered)
        kept = {path.stem for path in (Path(os.environ["LINGBOT_HOME"]) / "annotation_answers").rglob("*.json")}
        started = time.monotonic()
        (folder / "out").mkdir()
        summary = step.run(inputs, folder / "out", given, Silent())
        took = time.monotonic() - started
    assert summary["answers_from_cache"] == len(kept)
    # in flight when it was killed: at most the concurrency; every other answer was kept
    assert len(answered) - len(kept) <= given.concurrency
    assert summary["episodes_failed"] == 0
    rows = read_annotations(folder / "out")
    assert len(rows) == episodes * SEGMENTS and {row["source"] for row in rows} == {"qwen3-vl"}
    assert all(row["sub_task"] == valid_answer("segment")["sub_task"] for row in rows)
    return server, summary, took


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was_and_loses_nothing(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, episodes=40, seconds=0.05)


@pytest.mark.soak
def test_two_hundred_episodes_through_a_kill(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, episodes=200, seconds=0.2)
