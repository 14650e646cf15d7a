"""What the review page asks for over HTTP: the list, an episode, its frames and curves, and that it be saved.

The page and this service are of one machine: only names of this machine are answered (another site could otherwise
point its own name here), and what is saved comes as PUT with JSON, which a browser sends for no other site.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from components.annotate.episodes import Row
from components.annotate.review.curves import panels
from components.annotate.review.edits import revision
from components.annotate.review.listing import Filter, Listing, Order, State
from components.annotate.review.pictures import BLOCK, Pictures
from components.annotate.review.store import Change, Changed, ReviewFile
from model.data.segmentation import ACTIONS
from model.errors import UserError

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset
    from model.robots import Robot

PAGE = Path(__file__).parent / "page"
PAGE_SIZE = 50  # episodes of the list at once
# nothing from elsewhere is loaded; frames are drawn from bytes that the page holds
CONTENT_POLICY = "default-src 'self'; img-src 'self' blob:"


def create_app(
    dataset: "LeRobotDataset",
    robot: "Robot",
    file: ReviewFile,
    *,
    reviewer: str,
    name: str = "",
    sample: Sequence[int] | None = None,
) -> FastAPI:
    """The page and its service.

    Args:
        reviewer: who reviews; recorded with every change.
        name: what the page calls the dataset; "" for its folder's.
        sample: the episodes to review, in order; None for all.
    """
    app = FastAPI(title="Review of annotations", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    listing = Listing(sample)
    pictures = Pictures(dataset)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = CONTENT_POLICY
        response.headers["Cache-Control"] = "no-store"  # another dataset may have the same address tomorrow
        return response

    @app.exception_handler(UserError)
    async def on_user_error(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"message": str(error)}, status_code=422)

    @app.exception_handler(Changed)
    async def on_change(request: Request, error: Changed) -> JSONResponse:
        return JSONResponse({"message": str(error), **_rows(error.rows)}, status_code=409)

    @app.get("/api/review")
    def review() -> dict[str, Any]:
        return {
            "name": name or str(dataset.root).rpartition("/")[2],
            "dataset": str(dataset.root),
            "file": str(file.path),
            "reviewer": reviewer,
            "fps": dataset.info.fps,
            "cameras": [camera.rpartition(".")[2] for camera in dataset.cameras],
            "actions": ACTIONS,
            "block": BLOCK,
            "page_size": PAGE_SIZE,
            "sample": None if sample is None else len(sample),
        }

    @app.get("/api/episodes")
    def episodes(
        order: Order = "number",
        state: State = "all",
        words: str = "",
        offset: Annotated[int, Query(ge=0)] = 0,
        around: int | None = None,
    ) -> dict[str, Any]:
        chosen = Filter(order=order, state=state, words=words)
        rows = file.episodes()
        place = None if around is None else listing.place(rows, chosen, around)
        first = offset if place is None else place - place % PAGE_SIZE
        return listing.page(rows, chosen, first, PAGE_SIZE)

    @app.get("/api/next")
    def beside(
        order: Order = "number", state: State = "all", words: str = "", start: int | None = None, step: int = 1
    ) -> dict[str, int | None]:
        chosen = Filter(order=order, state=state, words=words)
        return {"episode": listing.beside(file.episodes(), chosen, start, step)}

    @app.get("/api/episodes/{episode}")
    def one(episode: int) -> dict[str, Any]:
        return {"episode": episode, "length": dataset.episode(episode).length, **_rows(file.rows(episode))}

    @app.put("/api/episodes/{episode}")
    def save(
        episode: int, base: Annotated[str, Body()], rows: Annotated[list[dict[str, Any]], Body()]
    ) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        change = Change(base=base, segments=rows, reviewer=reviewer, now=now)
        return _rows(file.save({episode: change})[episode])

    @app.get("/api/episodes/{episode}/curves")
    def curves(episode: int) -> list[dict[str, Any]]:
        return panels(robot, dataset.arrays(episode).action)

    @app.get("/api/episodes/{episode}/frames/{camera}/{number}")
    def frames(episode: int, camera: str, number: int) -> Response:
        return Response(pictures.block(episode, camera, number), media_type="application/octet-stream")

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _rows(rows: Sequence[Row]) -> dict[str, Any]:
    return {"revision": revision(rows), "rows": list(rows)}
