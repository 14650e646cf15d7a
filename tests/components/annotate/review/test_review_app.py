"""The service behind the page: the list, frames that are the right ones, and whom it answers."""

import io
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from components.annotate.review.app import create_app
from components.annotate.review.curves import panels
from components.annotate.review.listing import Filter, Listing
from components.annotate.review.pictures import BLOCK, Pictures
from components.annotate.review.store import ReviewFile
from model.data.annotations import complete
from model.data.hands import hand_dims
from model.data.lerobot import LeRobotDataset
from model.errors import UserError
from model.robots import find_robot, load_robot
from tests.components.annotate.recordings import picking
from tests.components.annotate.review.reviewing import Annotated, annotate


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Annotated:
    return annotate(tmp_path_factory.mktemp("review_app"), episodes=3)


@pytest.fixture
def client(annotated: Annotated, tmp_path: Path) -> TestClient:
    file = ReviewFile(tmp_path / "reviewed.parquet", annotated.rows, annotated.lengths)
    app = create_app(annotated.dataset, find_robot(annotated.dataset.info), file, reviewer="kim")
    return TestClient(app, base_url="http://127.0.0.1:8300")


def test_only_this_machine_s_names_are_answered(client: TestClient) -> None:
    """Another site can point its own name here, and then asks as that name."""
    assert client.get("/api/review").json()["reviewer"] == "kim"
    for path in ("/api/review", "/", "/app.js"):
        assert client.get(path, headers={"Host": "attacker.example:8300"}).status_code == 400
    page = client.get("/")
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    shown = client.get("/api/episodes/0").json()
    body = json.dumps({"base": shown["revision"], "rows": shown["rows"]})
    # what a form of another site can send: no PUT, and no JSON
    assert client.post("/api/episodes/0", content=body).status_code == 405
    assert client.put("/api/episodes/0", content=body, headers={"Content-Type": "text/plain"}).status_code == 422
    assert client.put("/api/episodes/0", content=body, headers={"Content-Type": "application/json"}).status_code == 200


def test_what_is_wrong_is_said_in_a_sentence(client: TestClient) -> None:
    shown = client.get("/api/episodes/0").json()
    answer = client.put("/api/episodes/0", json={"base": shown["revision"], "rows": []})
    assert (answer.status_code, answer.json()["message"][:42]) == (422, "episode 0 would have no segment left, and ")
    for path in ("/api/episodes/77", "/api/episodes/77/frames/cam_high/0", "/api/episodes/77/curves"):
        answer = client.get(path)
        assert answer.status_code == 422 and "episode 77" in answer.json()["message"]
    assert "Did you mean 'cam_high'" in client.get("/api/episodes/0/frames/cam_hihg/0").json()["message"]
    assert "it has 3" in client.get("/api/episodes/0/frames/cam_high/3").json()["message"]
    answer = client.put("/api/episodes/0", json={"base": "of another time", "rows": shown["rows"]})
    assert answer.status_code == 409 and answer.json()["rows"] == shown["rows"]


def test_curves_are_the_recorded_actions_and_the_opening_of_the_grippers(client: TestClient) -> None:
    drawn = {panel["name"]: panel for panel in client.get("/api/episodes/0/curves").json()}
    assert [(name, len(panel["series"])) for name, panel in drawn.items()] == [
        ("left arm", 6), ("right arm", 6), ("grippers", 2),
    ]  # fmt: skip
    _, action, _ = picking("right")
    moving = np.array([series["values"] for series in drawn["right arm"]["series"]])
    assert np.allclose(moving.T, action[:, 7:13], atol=1e-4)
    closing = np.array(drawn["grippers"]["series"][1]["values"])
    assert closing[29] == pytest.approx(1, abs=0.01) and closing[30] == pytest.approx(0, abs=0.01)


def test_hands_are_drawn_as_far_as_they_are_open() -> None:
    g1 = load_robot("unitree_g1_inspire")
    action = np.zeros((50, len(g1.action_names)))
    action[25:, list(hand_dims(g1)["right"])] = 0.5
    drawn = {panel["name"]: panel for panel in panels(g1, action)}
    assert list(drawn) == ["left arm", "right arm", "hands", "other"]
    (right,) = drawn["hands"]["series"]
    assert right == {"name": "right hand", "values": [0.0] * 25 + [1.0] * 25} and drawn["hands"]["unit"] == "open"
    assert len(drawn["other"]["series"]) == 12, "its fingers too"
    assert "hands" not in {panel["name"] for panel in panels(g1, 0 * action)}, "both are still"


def pictures_of(block: bytes) -> tuple[list[np.ndarray | None], dict[str, str]]:
    (length,) = struct.unpack_from("<I", block)
    head = json.loads(block[4 : 4 + length])
    offset, found = 4 + length, []
    for size in head["sizes"]:
        jpeg = block[offset : offset + size]
        found.append(np.asarray(Image.open(io.BytesIO(jpeg))) if size else None)
        offset += size
    assert offset == len(block)
    return found, head["errors"]


def test_blocks_hold_the_frames_of_their_numbers(client: TestClient) -> None:
    for number in range(3):
        frames, errors = pictures_of(client.get(f"/api/episodes/2/frames/cam_left_wrist/{number}").content)
        assert errors == {} and len(frames) == min(BLOCK, 60 - number * BLOCK)
        for place, frame in enumerate(frames):  # red tells the time, green the episode
            assert frame is not None
            assert abs(float(frame[..., 0].mean()) - 4 * (number * BLOCK + place)) < 12
            assert abs(float(frame[..., 1].mean()) - 74) < 12


def test_a_video_that_is_damaged_shows_what_is_left_of_it(annotated: Annotated, tmp_path: Path) -> None:
    root = Path(shutil.copytree(annotated.dataset.root, tmp_path / "damaged"))
    (video,) = (root / "videos/observation.images.cam_high").rglob("*.mp4")
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    video.write_bytes(content)
    pictures = Pictures(LeRobotDataset.open(root))
    shown, faults = 0, {}
    for episode in range(3):
        for number in range(3):
            frames, errors = pictures_of(pictures.block(episode, "cam_high", number))
            shown += sum(frame is not None for frame in frames)
            faults.update({(episode, number * BLOCK + int(place)): text for place, text in errors.items()})
    assert shown + len(faults) == 180 and 0 < len(faults) < 180
    for (episode, frame), text in faults.items():
        assert f"episode {episode}" in text and f"frame {frame}" in text and "cam_high" in text, text


def test_blocks_asked_for_last_stay_in_memory(annotated: Annotated) -> None:
    asked: list[tuple[int, int]] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(annotated.dataset, name)

        def frames(self, episode: int, camera: str, indices: Any) -> Any:
            asked.append((episode, indices[0] // BLOCK))
            return annotated.dataset.frames(episode, camera, indices)

    size = len(Pictures(annotated.dataset).block(0, "cam_high", 0))
    pictures = Pictures(Counting(), kept_bytes=2 * size + size // 2)  # type: ignore[arg-type]
    for number in (0, 1, 0, 2, 0, 1):
        pictures.block(0, "cam_high", number)
    assert [number for _, number in asked] == [0, 1, 2, 1], "the one that was looked at longest ago went"


def episodes(count: int = 1000) -> dict[int, list[dict[str, Any]]]:
    """Confidence falls with the number, every third is accepted, every hundredth got no text."""
    return {
        number: [
            complete(
                {
                    "episode": number, "start": 0, "end": 9, "atomic_action": "lift", "arm": "", "source": "template",
                    "task": f"task {number % 7}", "sub_task": f"lift thing {number}", "confidence": 1 - number / 2000,
                    "review_state": "accepted" if number % 3 == 0 else "failed" if number % 100 == 1 else "unreviewed",
                }
            )
        ]
        for number in range(count)
    }  # fmt: skip


def numbers(page: dict[str, Any]) -> list[int]:
    return [row["episode"] for row in page["episodes"]]


def test_a_thousand_episodes_are_listed_a_page_at_a_time() -> None:
    listing, rows = Listing(), episodes()
    page = listing.page(rows, Filter(), 950, 50)
    assert (page["total"], page["all"], page["accepted"]) == (1000, 1000, 334)
    assert numbers(page) == list(range(950, 1000))
    assert numbers(listing.page(rows, Filter(order="confidence"), 0, 3)) == [999, 998, 997]
    assert numbers(listing.page(rows, Filter(state="open"), 0, 4)) == [1, 2, 4, 5]
    assert numbers(listing.page(rows, Filter(state="accepted"), 0, 3)) == [0, 3, 6]
    assert numbers(listing.page(rows, Filter(state="failed"), 0, 9)) == [1, 101, 301, 401, 601, 701, 901]
    assert numbers(listing.page(rows, Filter(words="THING 77"), 0, 99)) == [77, *range(770, 780)]
    assert numbers(listing.page(rows, Filter(words="task 6", state="open"), 0, 2)) == [13, 20]
    assert numbers(listing.page(rows, Filter(words="998"), 0, 9)) == [998]
    assert listing.place(rows, Filter(state="open"), 5) == 3 and listing.place(rows, Filter(state="open"), 6) is None


def test_the_next_one_passes_the_filter_and_the_one_before_too() -> None:
    listing, rows = Listing(), episodes(10)
    assert [listing.beside(rows, Filter(state="open"), start, 1) for start in (None, 2, 3, 8)] == [1, 4, 4, None]
    assert [listing.beside(rows, Filter(state="open"), start, -1) for start in (3, 1)] == [2, None]
    assert listing.beside(rows, Filter(order="confidence"), 4, 1) == 3


def test_a_sample_is_listed_alone_and_in_its_order() -> None:
    listing, rows = Listing([7, 2, 6]), episodes(10)
    page = listing.page(rows, Filter(order="sample"), 0, 50)
    assert (numbers(page), page["all"], page["accepted"]) == ([7, 2, 6], 3, 1)
    assert numbers(listing.page(rows, Filter(), 0, 50)) == [2, 6, 7]
    assert listing.beside(rows, Filter(order="sample", state="open"), 2, 1) is None
    assert listing.beside(rows, Filter(order="sample"), 5, 1) == 7


def test_an_unknown_block_is_an_error_of_the_asker(annotated: Annotated) -> None:
    with pytest.raises(UserError, match="block -1 of episode 0"):
        Pictures(annotated.dataset).block(0, "cam_high", -1)
