"""The review page in a real browser: what a reviewer does there is in the file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from model.data.annotations import read_annotations
from tests.components.annotate.review.browser import chromium
from tests.components.annotate.review.reviewing import LONG, Annotated, annotate, repeated, served, wait_for

pytestmark = pytest.mark.slow
expect.set_options(timeout=LONG * 1000)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Annotated:
    return annotate(tmp_path_factory.mktemp("review"), episodes=4)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reviewed.parquet"


@pytest.fixture
def address(annotated: Annotated, file: Path) -> Iterator[str]:
    with served(annotated, file) as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, open at the first episode; it fails the test by any error of its own or any look elsewhere."""
    with_errors = opened(browser, address)
    page = next(with_errors)
    yield page
    assert next(with_errors, None) is None


def opened(browser: Browser, address: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1000, "height": 640})
    page.set_default_timeout(LONG * 1000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith((address, "blob:")) else None)
    page.goto(address)
    drawn(page, 0)
    yield page
    page.close()
    # a conflict is an answer, and a test cuts the connection: Chromium logs both
    assert [fault for fault in faults if not any(word in fault for word in ("409", "ERR_FAILED"))] == []


def drawn(page: Page, episode: int) -> None:
    """Waits until every view shows a frame of an episode, and its curves are there."""
    expect(page.locator("#title")).to_have_text(f"Episode {episode}")
    expect(page.locator(f"#views canvas[data-shown^='{episode}/']")).to_have_count(3)
    expect(page.locator("#timeline canvas.curve")).to_have_count(3)


def segments(page: Page) -> list[tuple[str, str, bool]]:
    """Start, end and whether accepted, of each block of the timeline."""
    blocks = page.locator("#timeline .segment").all()
    return [
        (block.get_attribute("data-start"), block.get_attribute("data-end"), "accepted" in block.get_attribute("class"))
        for block in blocks
    ]  # type: ignore[misc]


def saved(page: Page) -> None:
    expect(page.locator("#saved")).to_have_attribute("data-state", "done")


def rows_of(file: Path, episode: int) -> list[dict[str, Any]]:
    return [row for row in read_annotations(file) if row["episode"] == episode]


def test_split_rename_accept_reload_and_the_file_holds_it(page: Page, file: Path, annotated: Annotated) -> None:
    before = [row for row in annotated.rows if row["episode"] == 0]
    assert [row["atomic_action"] for row in before] == ["reach", "close gripper", "lift"]
    first = before[0]
    assert not file.exists()

    page.keyboard.press("Shift+ArrowRight")  # frame 10
    page.keyboard.press("s")
    expect(page.locator("#timeline .segment")).to_have_count(4)
    page.keyboard.press("r")
    page.keyboard.type("align")
    page.keyboard.press("Enter")
    page.keyboard.press("t")
    page.keyboard.type("align the right gripper with the cube")
    page.keyboard.press("Enter")
    page.keyboard.press("a")
    saved(page)

    page.reload()
    drawn(page, 0)
    middle = first["start"] + 10
    shown = segments(page)
    assert shown[:2] == [(str(first["start"]), str(middle), False), (str(middle), str(first["end"]), True)]
    page.locator("#timeline .segment").nth(1).click()
    expect(page.locator("[data-field=atomic_action]")).to_have_value("align")
    expect(page.locator("[data-field=sub_task]")).to_have_value("align the right gripper with the cube")
    expect(page.locator("#editor .about")).to_contain_text("accepted by kim")

    rows = rows_of(file, 0)
    assert [(row["start"], row["end"], row["atomic_action"]) for row in rows] == [
        (first["start"], middle, "reach"),
        (middle, first["end"], "align"),
        *[(row["start"], row["end"], row["atomic_action"]) for row in before[1:]],
    ]
    named = rows[1]
    assert named["sub_task"] == "align the right gripper with the cube" and named["verb"] == "align"
    assert (named["review_state"], named["reviewer"], named["source"]) == ("accepted", "kim", "kim")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", named["reviewed_at"])
    assert named["start_confidence"] == 1.0 and named["end_confidence"] == first["end_confidence"]
    assert rows[2:] == before[1:], "what was not touched is as it was"
    assert rows_of(file, 1) == [row for row in annotated.rows if row["episode"] == 1]


def test_a_cut_is_moved_by_keys_and_by_mouse_and_undone(page: Page, file: Path, annotated: Annotated) -> None:
    before = segments(page)
    cut = int(before[0][1])
    page.locator("#timeline .segment").first.click()
    page.keyboard.press(".")
    expect(page.locator("#timeline .segment").first).to_have_attribute("data-end", before[0][1])  # nearest is its start
    page.keyboard.press("Control+z")
    assert segments(page) == before

    handle = page.locator("#timeline .segment").first.locator(".handle.end").bounding_box()
    lane = page.locator("#timeline .lane").bounding_box()
    assert handle is not None and lane is not None
    x, y = lane["x"] + cut / 60 * lane["width"], handle["y"] + handle["height"] / 2
    page.mouse.move(x - 3, y)
    page.mouse.down()
    page.mouse.move(x - 3 - 5 / 60 * lane["width"], y, steps=4)
    page.mouse.up()
    saved(page)
    moved = segments(page)
    assert (moved[0][1], moved[1][0]) == (str(cut - 5), str(cut - 5)), "the cut is both segments'"
    rows = rows_of(file, 0)
    assert (rows[0]["end"], rows[1]["start"]) == (cut - 5, cut - 5)
    assert rows[0]["end_confidence"] == rows[1]["start_confidence"] == 1.0

    page.keyboard.press("Control+z")
    expect(page.locator("#timeline .segment").first).to_have_attribute("data-end", str(cut))
    wait_for(lambda: rows_of(file, 0) == [row for row in annotated.rows if row["episode"] == 0], "the undoing")

    begin = int(before[0][0])
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")  # from before the first segment to it
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("i")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("o")
    saved(page)
    ends = [(row["start"], row["end"]) for row in rows_of(file, 0)]
    assert ends[:2] == [(begin + 2, begin + 4), (begin + 4, int(before[1][1]))]
    page.keyboard.press("Delete")
    page.keyboard.press("g")
    expect(page.locator("#timeline .segment").first).to_have_attribute("data-start", "0")
    saved(page)
    made = rows_of(file, 0)[0]
    assert (made["start"], made["end"], made["atomic_action"], made["source"]) == (0, begin + 4, "wait", "kim")


def test_merge_and_accept_the_episode_goes_to_the_next(page: Page, file: Path) -> None:
    ends = segments(page)
    page.keyboard.press("m")
    expect(page.locator("#timeline .segment")).to_have_count(2)
    page.keyboard.press("Enter")
    drawn(page, 1)
    expect(page.locator("#progress-text")).to_have_text("1 of 4 episodes accepted")
    expect(page.locator("[data-episode='0'] .mark")).to_have_class(re.compile("accepted"))
    rows = rows_of(file, 0)
    assert [(row["start"], row["end"], row["review_state"]) for row in rows] == [
        (int(ends[0][0]), int(ends[1][1]), "accepted"),
        (int(ends[2][0]), int(ends[2][1]), "accepted"),
    ]
    page.get_by_role("radio", name="To do").click()
    expect(page.locator("#page-text")).to_have_text("1 to 3 of 3")
    page.keyboard.press("b")
    expect(page.locator("#toast")).to_contain_text("first episode")
    page.keyboard.press("n")
    drawn(page, 2)


def test_two_open_pages_do_not_overwrite_each_other(
    page: Page, browser: Browser, annotated: Annotated, file: Path
) -> None:
    """The later one is told, and chooses: first the other's, then its own."""
    with served(annotated, file, reviewer="lee") as other:
        theirs = opened(browser, other)
        second = next(theirs)
        second.keyboard.press("m")
        saved(second)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Delete")
        expect(page.locator("#conflict")).to_be_visible()
        expect(page.locator("#conflict-text")).to_contain_text("lee saved episode 0")
        merged = rows_of(file, 0)
        assert [row["reviewer"] for row in merged] == ["lee", ""], "nothing of theirs is lost yet"
        page.get_by_role("button", name="Take theirs").click()
        saved(page)
        assert rows_of(file, 0) == merged
        assert [int(end) for _, end, _ in segments(page)] == [row["end"] for row in merged]

        second.keyboard.press("a")
        saved(second)
        wait_for(lambda: rows_of(file, 0)[0]["review_state"] == "accepted", "the other page to save")
        page.keyboard.press("m")
        expect(page.locator("#conflict")).to_be_visible()
        page.get_by_role("button", name="Keep mine").click()
        expect(page.locator("#conflict")).to_be_hidden()
        saved(page)
        (mine,) = rows_of(file, 0)
        assert (mine["end"], mine["review_state"], mine["reviewer"]) == (merged[1]["end"], "unreviewed", "kim")
        assert next(theirs, None) is None


def test_a_segment_without_words_is_not_accepted(page: Page, file: Path) -> None:
    page.keyboard.press("t")
    page.keyboard.press("Delete")
    page.keyboard.press("Enter")
    saved(page)
    page.keyboard.press("a")
    expect(page.locator("#toast")).to_contain_text("has no sub task")
    expect(page.locator("[data-field=sub_task]")).to_be_focused()
    assert {row["review_state"] for row in rows_of(file, 0)} == {"unreviewed"}


def test_a_laptop_shows_the_words_of_a_segment_without_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 1366, "height": 768})
    expect(page.locator("#editor .buttons button").last).to_be_in_viewport(ratio=1)
    expect(page.locator("#editor input[data-field=objects]")).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.querySelector('#main').scrollHeight <= document.querySelector('#main').clientHeight")
    page.set_viewport_size({"width": 900, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator("#zoom-in")).to_be_in_viewport(ratio=1)


def test_what_is_done_while_the_service_is_away_is_saved_when_it_is_back(page: Page, address: str, file: Path) -> None:
    page.route("**/api/next?**", lambda route: route.abort())
    page.keyboard.press("n")
    expect(page.locator("#toast")).to_contain_text("does not answer")
    page.route("**/api/episodes/0", lambda route: route.abort())
    page.keyboard.press("m")
    expect(page.locator("#saved")).to_contain_text("does not answer")
    page.keyboard.press("m")
    assert not file.exists()
    page.unroute("**/api/episodes/0")
    saved(page)
    assert len(rows_of(file, 0)) == 1
    assert httpx.get(f"{address}/api/episodes/0", timeout=LONG).json()["rows"] == rows_of(file, 0)


def test_a_thousand_episodes_are_reviewed_like_four(browser: Browser, annotated: Annotated, file: Path) -> None:
    with served(repeated(annotated, 1000), file) as address:
        with_errors = opened(browser, address)
        page = next(with_errors)
        expect(page.locator("#progress-text")).to_have_text("0 of 1,000 episodes accepted")
        expect(page.locator("#episodes [data-episode]")).to_have_count(50)
        page.get_by_label("Search episodes").fill("987")
        page.locator("[data-episode='987']").click()
        drawn(page, 987)
        page.keyboard.press("Enter")
        expect(page.locator("#progress-text")).to_have_text("1 of 1,000 episodes accepted")
        page.get_by_label("Search episodes").fill("")
        expect(page.locator("#page-text")).to_have_text("951 to 1,000 of 1,000")
        page.locator("[data-episode='999']").click()
        drawn(page, 999)
        assert len(read_annotations(file)) == 3000
        assert {row["review_state"] for row in rows_of(file, 987)} == {"accepted"}
        assert next(with_errors, None) is None
