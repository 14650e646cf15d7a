"""One run of a DAG on this machine, from the plan to the summary. Its record is `runs/<id>/run.json`."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from components import records, state
from components.adapters.versioning import TELEMETRY_OFF
from components.code_version import Sources
from components.execution import ERROR_MARK, is_full_disk
from components.liveness import RUN_ID, alive, is_alive
from components.provenance import provenance
from components.provenance_files import write_for_run
from model.hardware import THREAD_VARIABLES, idle_cores
from pipelines.cost import cost_here, jobs_of, load_prices
from pipelines.history import read_runs
from pipelines.live import StepState, open_view
from pipelines.parameters import RunParameters
from pipelines.plan import PlannedStep, Version, make_plan, mark_verified, take_back
from pipelines.profile import Profile
from pipelines.shape import STUDY, run_steps, source_of
from pipelines.signals import stop_on_signals
from pipelines.summary import summary_lines, summary_values
from pipelines.twin import find_twin

_POLL_SECONDS = 0.25
_STOP_SECONDS = 10.0
_SHOWN = ("torch", "numpy", "pyarrow", "av", "mujoco", "gym-aloha", "kfp", "mlflow", "great_expectations", "dvc")


class StepFailed(Exception):
    """A step of the run failed; `report` is what components.execution.report wrote."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__(report["message"])
        self.report = report


class LocalRun:
    """A run here. `execute` does all of it and returns the exit code: 0, 2 (the user can put it right) or 1."""

    def __init__(
        self,
        pipeline: str,
        parameters: RunParameters,
        profile: Profile,
        data: Mapping[str, Any] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        source = source_of(parameters)
        self.steps, self.values = run_steps(pipeline, parameters)
        self.parameters = parameters
        self.id = state.new_run_id()
        self.folder = state.run_folder(self.id)
        self.stream = stream or sys.stdout
        self.threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or profile.threads or idle_cores()
        if pipeline == STUDY:
            # Policies that train side by side would wait for each other at every barrier of theirs.
            self.threads = max(1, self.threads // parameters.steps[STUDY]["parallel"])
        self.prices = load_prices(profile.prices)
        self.jobs = {step.task: jobs_of(self.values[step.task]) for step in self.steps}
        self.record: dict[str, Any] = {
            "schema_version": 1,
            "id": self.id,
            "pipeline": pipeline,
            "source": source,
            "status": "running",
            "started": time.time(),
            "seconds": None,
            "profile": profile.to_json(),
            "seed": parameters.seed,
            "preset": parameters.preset,
            "threads": self.threads,
            "provenance": provenance(parameters.to_json(), data=data, images=profile.images, threads=self.threads),
            "steps": [
                {"name": step.task, "step": step.name, "status": "waiting", "parameters": self.values[step.task]}
                for step in self.steps
            ],
            "error": None,
            "served": None,
            "cost": None,
            "twin": None,
            "report": None,
        }

    def execute(self) -> int:
        state.make_home()
        self.folder.mkdir(parents=True)
        _remove_leftovers()
        # For the steps and for the endpoint at the end: both are processes that we start.
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(self.threads)))
        self.say(
            f"run {self.id}: {self.record['pipeline']} from {self.record['source']}, preset {self.parameters.preset}, "
            f"{self.threads} thread{'s' * (self.threads != 1)}, state in {state.home()}"
        )
        with alive(self.id):  # until its record is the last one: who finds the run gone reads there how it ended
            code = self._see_through()
        if code == 0:
            for line in summary_lines(self.record):
                self.say(line)
        return code

    def _see_through(self) -> int:
        """The run itself; what became of it is in its record when this returns."""
        started, begun = time.monotonic(), False
        try:
            with stop_on_signals():
                version = Sources().version
                plan = make_plan(self.steps, self.values, version)
                write_for_run(self.id, self.record["provenance"])
                begun = True
                self._prepare(plan, version)
                if all(planned.artifact is not None for planned in plan):
                    self._reuse(plan)
                else:
                    self._run_dag()
                self._finish()
            self.record["status"] = "done"
            return 0
        except KeyboardInterrupt:
            self.record["status"] = "stopped"
            self.say("stopped. What is finished is kept: the same command goes on from here.")
            return 130
        except StepFailed as failed:
            self.record["status"], self.record["error"] = "failed", dict(failed.report)
            self._say_failure(failed.report)
            return 2 if failed.report["user"] else 1
        except BaseException as error:
            self.record["status"] = "failed"
            self.record["error"] = {"step": None, "type": type(error).__name__, "message": str(error)}
            raise
        finally:
            if begun:
                self.record["seconds"] = round(time.monotonic() - started, 3)
                self._take_cost()
                self._save()
            else:  # what could not be planned is no run: `last` stays what it was
                shutil.rmtree(self.folder)

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def _prepare(self, plan: Sequence[PlannedStep], version: Version) -> None:
        """Takes back what is not right any more, and tells the steps and the person what is left to do."""
        for broken, dependents in take_back(plan, self.values, version).items():
            planned = next(planned for planned in plan if planned.step.task == broken)
            self.say(f"changed: {planned.faults[0]}" + _and_more(planned.faults))
            self.say(f"  {', '.join([broken, *dependents])} run{'s' * (not dependents)} again")
        mark_verified(plan, self.id)
        for planned, entry in zip(plan, self.record["steps"], strict=True):
            entry["why"] = planned.why
        self._say_plan(plan)
        self._save()

    def _reuse(self, plan: Sequence[PlannedStep]) -> None:
        """Takes every step as it stands: starting ten processes to hear the same took 9 of a second run's 24 s."""
        states = [StepState(planned.step.task) for planned in plan]
        for step, planned in zip(states, plan, strict=True):
            assert planned.artifact is not None
            records.publish(planned.artifact)
            step.status, step.seconds, step.fingerprint = "cached", 0.0, planned.artifact.fingerprint
        self.say("every step is reused")
        self._take_states(states)

    def _say_plan(self, plan: Sequence[PlannedStep]) -> None:
        finished = [planned.step.task for planned in plan if planned.artifact is not None]
        size = sum(planned.artifact.size for planned in plan if planned.artifact is not None)
        if finished:
            self.say(f"finished before, {size / 2**20:.0f} MiB verified: {', '.join(finished)}")
        first = next((planned for planned in plan if planned.artifact is None), None)
        if first is not None:
            self.say(f"runs from {first.step.task}: {first.why}")

    def _run_dag(self) -> None:
        states = [StepState(step.task) for step in self.steps]
        reports: list[dict[str, Any]] = []
        with _kfp_process(self.id, self.folder, reports) as process, open_view(self.stream) as view:
            going = True
            while going:
                going = process.poll() is None  # read once more after the end
                events = [(step, event) for step in states for event in step.read(self.id)]
                if any(event["event"] in ("start", "end") for _, event in events):
                    self._take_states(states)
                view.show(states, events)
                if going:
                    time.sleep(_POLL_SECONDS)
        self._take_states(states)
        unfinished = [step.name for step in states if step.status not in ("done", "cached")]
        if unfinished:
            raise StepFailed(reports[-1] if reports else self._lost(unfinished[0], states))

    def _lost(self, step: str, states: Sequence[StepState]) -> dict[str, Any]:
        """The report of a step whose process ended without one, or of KFP itself when no step did."""
        started = any(state.name == step and state.started is not None for state in states)
        what = "its process was killed: out of memory?" if started else "KFP did not start it"
        return {
            "step": step,
            "type": "Killed" if started else "NotStarted",
            "message": f"{what} The log is {self.folder / 'kfp.log'}",
            "user": False,
            "traceback": "",
        }

    def _take_states(self, states: Sequence[StepState]) -> None:
        """Copies the states of the steps, and what the finished ones made, into the record."""
        for step, entry in zip(states, self.record["steps"], strict=True):
            entry["status"], entry["seconds"], entry["fingerprint"] = step.status, step.seconds, step.fingerprint
            if step.status in ("done", "cached") and "digest" not in entry:
                assert step.fingerprint is not None
                artifact = records.load_artifact(entry["step"], step.fingerprint)
                assert artifact is not None, f"{step.name} said that it is finished and has no record"
                timing = records.read_timing(entry["step"], step.fingerprint)
                entry |= {
                    "digest": artifact.digest,
                    "summary": artifact.summary,
                    "folder": str(records.data_folder(entry["step"], step.fingerprint)),
                    "bytes": artifact.size,
                    "made_in_seconds": timing["seconds"] if timing else None,
                    "made_with": timing,
                }
        self._save()

    def _finish(self) -> None:
        """Serves the policy for a moment and checks the endpoint, then writes the report. A study has its own page."""
        self._take_cost()
        if self.record["pipeline"] == STUDY:
            page = Path(self.record["steps"][-1]["folder"]) / "study.html"
            self.record["report"] = str(shutil.copyfile(page, self.folder / "report.html"))
            return
        from components.endpoint.check import check_served
        from pipelines.report import write_report

        by_name = {entry["name"]: entry for entry in self.record["steps"]}
        promotion = by_name["promote"]["summary"]
        self.say("serving the policy and asking it for actions over HTTP and the websocket")
        if promotion["promoted"]:
            what = f"{promotion['model']} {promotion['alias']}"
            answers = check_served(alias=promotion["alias"], model=promotion["model"])
        else:
            what = "the bundle of this run (not promoted)"
            answers = check_served(bundle=Path(by_name["finetune"]["folder"]) / "bundle")
        self.record["served"] = {"what": what, **answers}
        self.record["twin"] = find_twin(self.record, read_runs(self.say))
        self.record["report"] = str(write_report(self._for_report(), self.folder / "report.html"))

    def _take_cost(self) -> None:
        self.record["cost"] = cost_here(self.record, self.prices, self.jobs)

    def _for_report(self) -> dict[str, Any]:
        """The record as the report shows it: of hundreds of packages, those that results rest on."""
        made_from = self.record["provenance"]
        return {
            **self.record,
            "code": made_from["code"],
            "hardware": made_from["hardware"],
            "versions": {name: made_from["packages"][name] for name in _SHOWN if name in made_from["packages"]},
            "command": shlex.join(made_from["command"]),
        }

    def _say_failure(self, report: Mapping[str, Any]) -> None:
        self.say(f"step '{report['step']}' failed: {report['message']}")
        if not report["user"]:
            self.say(f"  {report['type']}; the traceback is in {self.folder / 'errors' / report['step']}.json, "
                     f"the log in {self.folder / 'kfp.log'}")  # fmt: skip
        done = [entry["name"] for entry in self.record["steps"] if entry["status"] in ("done", "cached")]
        kept = (
            f"{', '.join(done)} {'are' if len(done) > 1 else 'is'} kept" if done else "nothing was finished before it"
        )
        self.say(f"  {kept}; the same command goes on at '{report['step']}' when the cause is put right.")

    def _save(self) -> None:
        try:
            state.write_json(self.folder / "run.json", self.record)
            state.write_json(self.folder / "summary.json", summary_values(self.record))
        except OSError as error:
            if not is_full_disk(error):
                raise
            self.say(f"the disk is full: {self.folder / 'run.json'} could not be written; free some space there")


@contextlib.contextmanager
def _kfp_process(run_id: str, folder: Path, reports: list[dict[str, Any]]) -> Iterator[subprocess.Popen[str]]:
    """KFP in a process group of its own, which is ended with the block. Error reports on its log go to `reports`."""
    # KFP leaves a folder a task in the folder for temporary files: one that goes with the run. Its path is short,
    # because libraries put sockets there.
    temporary = _temporary_folder(run_id)
    temporary.mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        **TELEMETRY_OFF,
        RUN_ID: run_id,
        # KFP runs in the folder of the checkout, so paths of the environment must not be relative.
        "LINGBOT_HOME": str(state.home()),
        **({"LINGBOT_STORAGE": storage.url} if (storage := records.open_storage()) else {}),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(state.checkout()), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.local", run_id],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        cwd=state.checkout(), env=environment, start_new_session=True,
    )  # fmt: skip
    reader = threading.Thread(target=_read_log, args=(process, folder / "kfp.log", reports), daemon=True)
    reader.start()
    try:
        yield process
    finally:
        _end_group(process)
        reader.join()
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_folder(run_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"lingbot-{run_id}"


def _remove_leftovers() -> None:
    """Removes the temporary folders of runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("lingbot-*"):
        run_id = folder.name.removeprefix("lingbot-")
        if state.run_folder(run_id).exists() and not is_alive(run_id):
            shutil.rmtree(folder, ignore_errors=True)


def _read_log(process: subprocess.Popen[str], path: Path, reports: list[dict[str, Any]]) -> None:
    """Copies KFP's log to a file and picks the error reports out. A full disk ends the copying, not the reading."""
    assert process.stdout is not None
    log: TextIO | None = path.open("w", encoding="utf-8")
    for line in process.stdout:
        position = line.find(ERROR_MARK)
        if position >= 0:
            reports.append(json.loads(line[position + len(ERROR_MARK) :]))
        if log is not None:
            try:
                log.write(line)
                log.flush()
            except OSError:
                log = None  # the step that filled the disk reports it
    if log is not None:
        log.close()


def _end_group(process: subprocess.Popen[str]) -> None:
    """Ends what is left of the process group: asked first, made to after 10 s."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            process.poll()  # a dead child is in the group until it is asked after
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                process.wait()
                return
            time.sleep(0.05)
    process.wait()


def _and_more(faults: Sequence[str]) -> str:
    return f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
