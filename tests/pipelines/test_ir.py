"""The check of a compiled pipeline refuses what Kubeflow would: unknown fields, too many bytes, too wide a loop."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from model.errors import UserError
from pipelines import ir
from pipelines.compile import compile_pipeline
from pipelines.parameters import load_parameters
from pipelines.profile import load_profile

Documents = list[dict[str, Any]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_pipeline(load_parameters(), load_profile("h100"), tmp_path_factory.mktemp("ir"))


@pytest.fixture
def edited(compiled: Path, tmp_path: Path) -> Callable[[Callable[[Documents], None]], Path]:
    def edit(change: Callable[[Documents], None]) -> Path:
        documents = list(ir.load(compiled))
        change(documents)
        path = tmp_path / "edited.yaml"
        # JSON is YAML, and PyYAML takes a second for what json writes in a millisecond.
        path.write_text("\n---\n".join(map(json.dumps, documents)))
        return path

    return edit


def pod(documents: Documents) -> dict[str, Any]:
    found: dict[str, Any] = ir.pods(documents[1])["exec-pack"]
    return found


def test_what_is_compiled_passes(compiled: Path) -> None:
    ir.check(compiled)
    assert compiled.stat().st_size < ir.MAX_BYTES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda documents: documents[0].update(pipelineInfos={}), "pipelineInfos"),
        (lambda documents: documents[0]["root"]["dag"]["tasks"]["pack"].update(cacheOptions={}), "cacheOptions"),
        (lambda documents: documents[1].update(platform={}), "platform"),
        (lambda documents: pod(documents).update(tolerration=[]), "tolerration"),
        (lambda documents: pod(documents)["emptyDirMounts"][0].update(size="1Gi"), "size"),
    ],
)
def test_a_field_that_kubeflow_does_not_have_is_refused(
    edited: Callable[[Callable[[Documents], None]], Path], change: Callable[[Documents], None], message: str
) -> None:
    with pytest.raises(json_format.ParseError, match=message):
        ir.check(edited(change))


def loop(count: int) -> Callable[[Documents], None]:
    """Makes `pack` a loop over so many items, given in place or as the default of an input."""

    def change(documents: Documents) -> None:
        task = documents[0]["root"]["dag"]["tasks"]["pack"]
        task["parameterIterator"] = {"itemInput": "item", "items": {"inputParameter": "items"}}
        task["inputs"]["parameters"]["items"] = {"componentInputParameter": "all_items"}
        given = {"parameterType": "LIST", "defaultValue": list(range(count))}
        documents[0]["root"]["inputDefinitions"]["parameters"]["all_items"] = given

    return change


def test_a_loop_of_fifty_is_taken_and_one_more_is_not(edited: Callable[[Callable[[Documents], None]], Path]) -> None:
    ir.check(edited(loop(50)))
    with pytest.raises(UserError, match="loop 'pack' .* has 51 items, at most 50"):
        ir.check(edited(loop(51)))


def test_a_loop_over_items_in_place_counts_as_well(edited: Callable[[Callable[[Documents], None]], Path]) -> None:
    raw = {"itemInput": "item", "items": {"raw": str(list(range(60)))}}
    with pytest.raises(UserError, match="60 items"):
        ir.check(edited(lambda documents: documents[0]["root"]["dag"]["tasks"]["pack"].update(parameterIterator=raw)))


def test_a_pipeline_that_etcd_would_not_take_is_refused(
    edited: Callable[[Callable[[Documents], None]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(documents: Documents) -> None:
        documents[0]["root"]["inputDefinitions"]["parameters"]["pack_parameters"]["defaultValue"]["x"] = "x" * 10**6

    with pytest.raises(UserError, match="shorten parameters"):
        ir.check(edited(grow))
