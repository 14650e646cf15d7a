"""The Open Inference Protocol v2 against a real server: JSON, the binary extension, batches, versions, mistakes."""

import json
import struct

import numpy as np
import pytest

from components.endpoint.codec import pack, unpack
from components.endpoint.kserve_codec import BINARY_HEADER
from components.endpoint.routing import Routes
from components.endpoint.served import Served

MODEL = "lingbot-vla-test"
DATATYPES = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64"}


def tensors(observation, *, batch=0):
    """(name, array or texts) of an observation; repeated along a first axis when `batch`."""
    named = {key: value for key, value in observation.items() if isinstance(value, np.ndarray)}
    named["task"] = [observation["task"]]
    named["seed"] = np.array([observation["seed"]], dtype=np.int64)
    if not batch:
        return named
    stacked = {key: np.stack([value] * batch) for key, value in named.items() if isinstance(value, np.ndarray)}
    return stacked | {"task": named["task"] * batch, "seed": np.arange(batch, dtype=np.int64)}


def request(observation, *, binary, batch=0, **fields):
    entries, chunks = [], []
    for name, values in tensors(observation, batch=batch).items():
        if isinstance(values, list):
            entry = {"name": name, "shape": [len(values)], "datatype": "BYTES"}
            data = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in values)
        else:
            entry = {"name": name, "shape": list(values.shape), "datatype": DATATYPES[values.dtype.name]}
            data = values.tobytes()
        if binary:
            entry["parameters"] = {"binary_data_size": len(data)}
            chunks.append(data)
        else:
            entry["data"] = values if isinstance(values, list) else values.ravel().tolist()
        entries.append(entry)
    head = json.dumps({"inputs": entries, **fields}).encode()
    if not binary:
        return {"content": head, "headers": {"content-type": "application/json"}}
    headers = {"content-type": "application/octet-stream", BINARY_HEADER: str(len(head))}
    return {"content": head + b"".join(chunks), "headers": headers}


def outputs(reply):
    """Arrays by name of a reply, JSON or binary."""
    length = reply.headers.get(BINARY_HEADER)
    head = json.loads(reply.content if length is None else reply.content[: int(length)])
    rest, found = b"" if length is None else reply.content[int(length) :], {}
    for entry in head["outputs"]:
        dtype = {"FP32": "<f4", "INT64": "<i8"}[entry["datatype"]]
        size = entry.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[entry["name"]] = np.array(entry["data"], dtype=dtype).reshape(entry["shape"])
        else:
            found[entry["name"]] = np.frombuffer(rest[:size], dtype=dtype).reshape(entry["shape"])
            rest = rest[size:]
    assert rest == b""
    return head, found


@pytest.fixture
def server(start, slow_bundle):
    return start(slow_bundle())


@pytest.fixture
def url(server):
    return f"{server.url}/v2/models/{MODEL}"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("binary_output", [False, True])
def test_the_actions_are_those_of_the_other_protocols(server, url, observation, http, binary, binary_output):
    headers = {"content-type": "application/msgpack"}
    other = unpack(http.post(f"{server.url}/v1/infer", content=pack(observation), headers=headers).content)
    asked = request(observation, binary=binary, id="a-7", parameters={"binary_data_output": binary_output})
    reply = http.post(f"{url}/infer", **asked)
    assert reply.status_code == 200, reply.text
    assert (BINARY_HEADER.lower() in reply.headers) is binary_output
    head, found = outputs(reply)
    assert (head["id"], head["model_name"], head["model_version"]) == ("a-7", MODEL, "7")
    assert found["seed"].tolist() == [observation["seed"]]
    np.testing.assert_array_equal(found["actions"], other["actions"])


def test_outputs_are_chosen_one_by_one(url, observation, http):
    wanted = [{"name": "actions", "parameters": {"binary_data": True}}]
    _, found = outputs(http.post(f"{url}/infer", **request(observation, binary=True, outputs=wanted)))
    assert list(found) == ["actions"]


def test_a_batch_has_one_axis_more(url, observation, http):
    head, found = outputs(http.post(f"{url}/infer", **request(observation, binary=True, batch=3)))
    assert found["actions"].shape == (3, 10, 14) and found["seed"].tolist() == [0, 1, 2]
    _, single = outputs(http.post(f"{url}/infer", **request(observation | {"seed": 2}, binary=False)))
    np.testing.assert_array_equal(single["actions"], found["actions"][2])


def test_the_model_describes_its_tensors(server, url, bundle, http):
    described = http.get(url).json()
    assert described["versions"] == ["7"] and described["outputs"][0]["shape"] == [10, 14]
    shapes = {entry["name"]: (entry["datatype"], entry["shape"]) for entry in described["inputs"]}
    assert shapes["observation.state"] == ("FP32", [14]) and shapes["observation.images.cam_high"][0] == "UINT8"
    assert "binary_tensor_data" in http.get(f"{server.url}/v2").json()["extensions"]
    for path in ("health/live", "health/ready", f"models/{MODEL}/ready", f"models/{MODEL}/versions/7/ready"):
        assert http.get(f"{server.url}/v2/{path}").status_code == 200


def test_a_version_in_the_path_is_answered_by_that_version(server, url, slow_bundle, observation, http):
    champion = server.service.served
    other = slow_bundle(answer=np.full((10, 14), 0.25, dtype=np.float32))
    canary = Served(bundle=other, model_name=MODEL, model_version="8")
    server.service.route(Routes(champion=champion, canary=canary, share=0.0))
    for version, constant in (("7", False), ("8", True), ("7", False)):
        head, found = outputs(http.post(f"{url}/versions/{version}/infer", **request(observation, binary=True)))
        assert head["model_version"] == version and bool((found["actions"] == 0.25).all()) is constant
    session = {"parameters": {"session_id": "robot-1"}}
    asked = [("7", "/versions/7"), ("8", "/versions/8"), ("8", "")]  # an episode keeps what it was tied to
    for version, path in asked:
        head, _ = outputs(http.post(f"{url}{path}/infer", **request(observation, binary=True, **session)))
        assert head["model_version"] == version
    missing = http.post(f"{url}/versions/9/infer", **request(observation, binary=True))
    assert missing.status_code == 404 and "7, 8" in missing.json()["error"]
    assert http.get(f"{server.url}/v2/models/other").status_code == 404


def test_the_next_episode_of_a_session_keeps_to_the_version_in_the_path(server, url, slow_bundle, observation, http):
    canary = Served(bundle=slow_bundle(), model_name=MODEL, model_version="8")
    server.service.route(Routes(champion=server.service.served, canary=canary, share=0.0))
    for episode, path, version in (("a", "/versions/8", "8"), ("b", "/versions/8", "8"), ("c", "", "7")):
        names = {"session_id": "robot-1", "episode_id": episode}
        head, _ = outputs(http.post(f"{url}{path}/infer", **request(observation, binary=True, parameters=names)))
        assert (head["model_version"], head["parameters"]["episode_id"]) == (version, episode)
    assert server.service.metrics.value("episodes", version="8") == 2


def changed(observation, edit):
    asked = request(observation, binary=False)
    body = json.loads(asked["content"])
    edit(body)
    return {**asked, "content": json.dumps(body).encode()}


def one(body, name):
    return next(entry for entry in body["inputs"] if entry["name"] == name)


@pytest.mark.parametrize(
    ("edit", "status", "words"),
    [
        (lambda b: b.pop("inputs"), 400, "inputs must be a list"),
        (lambda b: b["inputs"].append(b["inputs"][0]), 400, "same name"),
        (lambda b: one(b, "task").update(name="tsak"), 422, "Did you mean 'task'"),
        (lambda b: one(b, "observation.state").update(datatype="FP23"), 400, "Did you mean 'FP32'"),
        (lambda b: one(b, "observation.state").update(shape=[13]), 400, "shape [13] and 14 values"),
        (lambda b: one(b, "observation.state").update(shape=[13], data=[0.0] * 13), 422, "expects (14,)"),
        (lambda b: one(b, "observation.state").update(shape=[-1]), 400, "list of at most 6 sizes"),
        (lambda b: one(b, "observation.state").update(data=["a"] * 14), 400, "does not fit FP32"),
        (lambda b: one(b, "observation.images.cam_high")["data"].__setitem__(0, 256), 400, "0 to 255"),
        (lambda b: one(b, "observation.state").update(parameters={"binary_data_size": 4}), 400, "0 bytes are left"),
        (lambda b: one(b, "observation.state").update(parameters={"a": []}), 400, "texts, numbers or booleans"),
        (lambda b: one(b, "task").update(data=[["x", 1]]), 400, "send texts"),
        (lambda b: b.update(outputs=[{"name": "action"}]), 422, "Did you mean 'actions'"),
        (lambda b: b.update(id=7), 400, "id must be a text"),
        (lambda b: b.update(parameters={"deadline_ms": -1}), 422, "deadline_ms"),
    ],
)
def test_a_mistake_is_one_sentence(url, observation, http, edit, status, words):
    reply = http.post(f"{url}/infer", **changed(observation, edit))
    assert reply.status_code == status and words in reply.json()["error"], reply.text
    assert http.post(f"{url}/infer", **request(observation, binary=False)).status_code == 200


@pytest.mark.parametrize(
    ("header", "cut", "words"),
    [("0", None, "length of its JSON"), ("x", None, "length"), ("9" * 30, None, "length"), (None, -1, "binary_data")],
)
def test_binary_that_does_not_add_up_is_refused(url, observation, http, header, cut, words):
    asked = request(observation, binary=True)
    headers = {**asked["headers"], **({BINARY_HEADER: header} if header else {})}
    reply = http.post(f"{url}/infer", content=asked["content"][:cut], headers=headers)
    assert reply.status_code == 400 and words in reply.json()["error"]
