"""The KFP definition, the table of steps and the compiled YAML say the same."""

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.code_version import Sources
from components.images import IMAGES
from components.steps import STEPS, maker
from pipelines import ir
from pipelines.compile import compile_pipeline
from pipelines.parameters import load_parameters
from pipelines.profile import load_profile
from pipelines.shape import SOURCES, dag_steps


@pytest.fixture(scope="module", params=SOURCES)
def compiled(request, tmp_path_factory):
    settings = [] if request.param == "collect" else ["ingest.dataset=s3://bucket/cubes"]
    parameters = load_parameters(settings=settings)
    path = compile_pipeline(parameters, load_profile("cluster"), tmp_path_factory.mktemp("compiled"))
    return request.param, parameters, path


@pytest.fixture(scope="module")
def spec(compiled):
    """The pipeline as Kubeflow reads it."""
    *_, path = compiled
    return ir.load(path)[0]


@pytest.fixture(scope="module")
def tasks(spec):
    return spec["root"]["dag"]["tasks"]


def task_name(step: str) -> str:
    return step.replace("_", "-")


def test_the_file_is_what_kubeflow_takes(compiled, spec):
    source, _, path = compiled
    assert (
        path.name
        == {"collect": "demonstrations_to_policy.yaml", "ingest": "demonstrations_to_policy_ingest.yaml"}[source]
    )
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert path.stat().st_size < 200_000


def test_tasks_and_their_order_are_those_of_the_table(compiled, tasks):
    source, *_ = compiled
    steps = dag_steps(source)
    assert set(tasks) == {task_name(step.name) for step in steps}
    for step in steps:
        before = {task_name(maker(step, name)) for name in step.inputs}
        assert set(tasks[task_name(step.name)].get("dependentTasks", [])) == before


def test_each_task_gets_artefacts_digests_parameters_and_code(compiled, tasks):
    source, *_ = compiled
    sources = Sources()
    for step in dag_steps(source):
        inputs = tasks[task_name(step.name)]["inputs"]
        for name in step.inputs:
            producer = task_name(maker(step, name))
            artifact = inputs["artifacts"][name]["taskOutputArtifact"]
            digest = inputs["parameters"][f"{name}_digest"]["taskOutputParameter"]
            assert artifact == {"producerTask": producer, "outputArtifactKey": name}
            assert digest == {"producerTask": producer, "outputParameterKey": "digest"}
        given = inputs["parameters"]["parameters"]
        assert given == {"componentInputParameter": f"{step.name}_parameters"}
        assert inputs["parameters"]["code_version"]["runtimeValue"]["constant"] == sources.version(step.module)


def test_parameters_are_visible_and_complete(compiled, spec):
    source, parameters, _ = compiled
    given = spec["root"]["inputDefinitions"]["parameters"]
    assert set(given) == {f"{step.name}_parameters" for step in dag_steps(source)}
    for step in dag_steps(source):
        assert given[f"{step.name}_parameters"]["defaultValue"] == parameters.steps[step.name]


def test_kfp_caches_only_what_its_key_tells_apart(compiled, tasks):
    """Not what writes to the registry, nor what reads bytes by name: the same name may hold others tomorrow."""
    source, *_ = compiled
    for step in dag_steps(source):
        cached = not step.effects and not step.sources and not step.listings
        assert bool(tasks[task_name(step.name)]["cachingOptions"].get("enableCache")) is cached
    never = {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")}
    assert {"register", "promote", "validate", "pretrain"} <= never and "pack" not in never


def test_images_environment_and_resources_come_from_the_profile(tmp_path):
    source, images = "collect", {role: f"registry.example.com/{role}@sha256:{'a' * 64}" for role in IMAGES}
    profile = load_profile("cluster").with_images(images)
    path = compile_pipeline(load_parameters(), profile, tmp_path)
    executors = ir.load(path)[0]["deploymentSpec"]["executors"]
    for step in dag_steps(source):
        container = executors[f"exec-{task_name(step.name)}"]["container"]
        settings = profile.steps.get(step.name, profile.every_step)
        assert container["image"] == images[step.image]
        environment = {item["name"]: item["value"] for item in container["env"]}
        assert profile.environment.items() <= environment.items()
        assert container["resources"]["resourceMemoryLimit"] == settings.memory
        assert container["resources"]["resourceCpuLimit"] == settings.cpu
        assert "pip install" not in " ".join(container["command"])


def test_a_laptop_has_the_images_that_components_name(tmp_path):
    path = compile_pipeline(load_parameters(), load_profile("laptop"), tmp_path)
    assert {IMAGES["data"], IMAGES["train"], IMAGES["simulation"]} == {
        executor["container"]["image"] for executor in ir.load(path)[0]["deploymentSpec"]["executors"].values()
    }


def test_every_step_has_an_image_that_exists():
    assert {step.image for step in STEPS.values()} <= IMAGES.keys()
