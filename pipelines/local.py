"""Runs a DAG on this machine with kfp.local: `python -m pipelines.local RUN`, started by `lingbot run`.

A process of its own, so that KFP's log does not mix with what the person sees, the command stays light, and stopping
the run is ending one process group. What to run is in `runs/<id>/run.json`.
"""

import json
import os
import sys

from components import state
from components.liveness import RUN_ID, end_with_run
from pipelines.profile import Profile
from pipelines.shape import MAIN, STUDY


def main(run_id: str) -> int:
    os.environ[RUN_ID] = run_id
    end_with_run()
    request = json.loads((state.run_folder(run_id) / "run.json").read_text())
    from pipelines.sdk import import_kfp

    import_kfp()
    from kfp import local

    from pipelines import demonstrations_to_policy, study

    build = {MAIN: demonstrations_to_policy.build, STUDY: study.build}[request["pipeline"]]
    steps = {step["name"]: step["parameters"] for step in request["steps"]}
    pipeline = build(request["source"], steps, Profile.from_json(request["profile"]))
    # Our fingerprints decide what runs again, and look at the bytes; KFP's own cache does neither, so it stays off.
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(state.kfp_folder() / run_id),
        raise_on_error=False,
    )
    pipeline()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
