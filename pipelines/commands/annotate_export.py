"""`lingbot annotate export`: tasks for Label Studio."""

import argparse
import json
from pathlib import Path
from urllib.parse import quote

HELP = "tasks for Label Studio, with a video of each episode"
TASKS, CONFIG, CLIPS = "tasks.json", "config.xml", "clips"


def configure(parser: argparse.ArgumentParser) -> None:
    from pipelines.annotated import add_annotated

    add_annotated(parser, "its annotations, reviewed or not: a folder or a .parquet")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="for the tasks, the labelling interface and the videos",
    )
    parser.add_argument(
        "--video-url", metavar="PREFIX",
        help="where Label Studio finds the videos (default: its local files, /data/local-files/?d=FOLDER/clips/)",
    )  # fmt: skip
    parser.add_argument("--no-clips", action="store_true", help="write no videos: they are at --video-url already")


def run(args: argparse.Namespace) -> int:
    from components import state
    from components.annotate.episodes import by_episode
    from components.annotate.review.clips import write_clip
    from components.annotate.review.label_studio import make_config, make_tasks
    from model.errors import UserError
    from pipelines.annotated import open_annotated

    output: Path = args.output
    if (output / TASKS).exists():
        raise UserError(f"--output is '{output}', which holds {TASKS} already: give another folder.")
    source = open_annotated(args)
    dataset, episodes = source.dataset, by_episode(source.rows())
    if not episodes:
        raise UserError(f"{source.annotations} has no segment of any episode: there is nothing to export.")
    lengths = {episode: dataset.episode(episode).length for episode in episodes}
    prefix = args.video_url or f"/data/local-files/?d={quote(output.absolute().name)}/{CLIPS}/"
    names = {episode: f"episode_{episode:06d}.mp4" for episode in episodes}
    tasks = make_tasks(
        episodes, fps=dataset.info.fps, lengths=lengths, videos={each: prefix + name for each, name in names.items()}
    )
    output.mkdir(parents=True, exist_ok=True)
    if not args.no_clips:
        (output / CLIPS).mkdir(exist_ok=True)
        for number, (episode, name) in enumerate(names.items(), 1):
            if not (output / CLIPS / name).exists():  # of an export that was stopped
                write_clip(dataset, episode, output / CLIPS / name)
            if number % 50 == 0:
                print(f"{number} of {len(names)} videos", flush=True)
    state.write_atomically(output / CONFIG, make_config(episodes).encode())
    state.write_atomically(output / TASKS, json.dumps(tasks, ensure_ascii=False, indent=1).encode())
    accepted = sum("annotations" in task for task in tasks)
    print(f"{len(tasks)} episodes in {output / TASKS}: {accepted} accepted as annotations, the others as predictions")
    print(f"in Label Studio: a project with {output / CONFIG} as its labelling interface, then import the tasks")
    return 0
