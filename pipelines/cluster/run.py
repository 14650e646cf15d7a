"""One run on a cluster, seen from the machine that starts it: compiled, submitted once, followed to its end."""

import dataclasses
import hashlib
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from components import state
from components.adapters.storage import Storage
from components.provenance import provenance
from components.provenance_files import publish_for_run, write_for_run
from model.errors import UserError
from pipelines import ir
from pipelines.cluster import records
from pipelines.cluster.api import Kubeflow, connect
from pipelines.cluster.following import STOPPED, end_lines, follow
from pipelines.cluster.results import conclude, keep
from pipelines.cluster.submission import run_key, submit_once
from pipelines.compile import compile_pipeline
from pipelines.cost import Reserved, jobs_of, load_prices
from pipelines.parameters import RunParameters
from pipelines.places import check_places
from pipelines.profile import Profile
from pipelines.shape import run_steps, source_of


class ClusterRun:
    """A run on a cluster. `submit` starts it, `follow` sees it to its end; a record of it stays here."""

    def __init__(
        self,
        pipeline: str,
        parameters: RunParameters,
        profile: Profile,
        data: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        kfp: Kubeflow | None = None,
        stream: TextIO | None = None,
    ) -> None:
        """
        Args:
            pipeline: its name.
            parameters: of the run.
            profile: of the cluster.
            data: the tag that the data comes from.
            name: what the run must not be started twice for, such as a commit; by itself each run is another one.
            kfp: where; what the environment and the profile name, when left out.
            stream: for what a person sees.

        Raises:
            UserError: a parameter names a file of this machine, no address of Kubeflow is known, or the prices of the
                profile cannot be read.
        """
        check_places(parameters, pipeline, profile)
        self.kfp = kfp or connect(experiment=profile.experiment, service_account=profile.service_account)
        self.pipeline, self.parameters, self.profile, self.stream = pipeline, parameters, profile, stream or sys.stdout
        self.id = state.new_run_id()
        self.folder = state.run_folder(self.id)
        images = {step.image: profile.image_of(step) for step in run_steps(pipeline, parameters)[0]}
        self.provenance = provenance(parameters.to_json(), data=data, images=images)
        self.name = name
        self.record: dict[str, Any] = {
            "schema_version": records.SCHEMA_VERSION,
            "id": self.id,
            "run": "",
            "key": "",
            "pipeline": pipeline,
            "source": source_of(parameters),
            "status": "submitting",
            "started": time.time(),
            "seconds": None,
            "host": self.kfp.host,
            "link": "",
            "experiment": self.kfp.experiment,
            "profile": profile.to_json(),
            "prices": dataclasses.asdict(load_prices(profile.prices)),
            "jobs": {step: dataclasses.asdict(job) for step, job in self._jobs().items()},
            "preset": parameters.preset,
            "seed": parameters.seed,
            "steps": [],
            "cost": None,
            "error": None,
        }

    def submit(self) -> str:
        """Compiles and starts it; returns Kubeflow's id of the run."""
        state.make_home()
        self.folder.mkdir(parents=True)
        write_for_run(self.id, self.provenance)
        package = compile_pipeline(self.parameters, self.profile, self.folder, self.pipeline)
        given = ir.inputs(ir.load(package)[0])
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        what = {"name": self.name} if self.name else {"package": digest, "parameters": given, "invocation": self.id}
        self.record["key"] = run_key(self.pipeline, what)
        records.save(self.record)
        code = self.provenance["code"]
        described = f"from commit {(code['commit'] or 'unknown')[:12]}" + (", with changes" if code["dirty"] else "")
        try:
            run_id = submit_once(
                self.record["key"], package, given, pipeline=self.pipeline, description=described, kfp=self.kfp
            )
        except KeyboardInterrupt:
            self.say(f"stopped while it was submitted: `lingbot runs show {self.id}` tells whether it was started")
            raise
        self.record |= {"run": run_id, "status": "running", "link": self.kfp.link(run_id)}
        records.save(self.record)
        self.say(f"run {run_id}: {self.pipeline} from {self.record['source']}, preset {self.parameters.preset}")
        self.say(f"  {self.record['link']}")
        self._publish(run_id)
        return run_id

    def follow(self) -> int:
        """Shows it until it has ended; returns the exit code."""
        ended = follow(self.kfp, self.record["run"], self.stream)
        self.record, results = conclude(self.record, ended)
        keep(self.record)
        for line in [*end_lines(ended, self.record["link"]), *results]:
            self.say(line)
        if ended.code not in (0, STOPPED):
            self.say(f"  when the cause is put right: lingbot runs retry {self.id}")
        return ended.code

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def _jobs(self) -> dict[str, Reserved]:
        """Step -> what it launches beside its own pod. Settings that lie where only pods see them are said."""
        jobs = {}
        for name in dict.fromkeys(step.name for step in run_steps(self.pipeline, self.parameters)[0]):
            try:
                jobs[name] = jobs_of(self.parameters.steps[name])
            except UserError as error:
                self.say(f"what '{name}' launches will not be in the cost of the run: {error}")
        return jobs

    def _publish(self, run_id: str) -> None:
        """Keeps what the run was made from where its steps find it: the register step tells it to the registry."""
        url = self.profile.storage.url
        if not url:
            self.say("  the profile names no storage.url: steps record what they themselves run in, not this checkout")
            return
        try:
            publish_for_run(run_id, self.provenance, Storage.from_url(url))
        except UserError as error:
            self.say(f"  its provenance stays here, in {self.folder}: {error}")
