"""One episode by the real openpi-client. Runs in an environment of its own (numpy 1), so it imports nothing of ours.

python openpi_episode.py PORT STEPS CAMERA...      prints a line of JSON
"""

import json
import sys
import time

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

EXECUTE = 10


class Timed:
    """The policy, with the milliseconds of each question."""

    def __init__(self, policy):
        self.policy, self.milliseconds, self.replies = policy, [], []

    def infer(self, observation):
        started = time.perf_counter()
        self.replies.append(self.policy.infer(observation))
        self.milliseconds.append((time.perf_counter() - started) * 1000)
        return self.replies[-1]

    def reset(self):
        self.policy.reset()


port, steps, cameras = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
policy = WebsocketClientPolicy("127.0.0.1", port)
metadata = policy.get_server_metadata()
timed = Timed(policy)
broker = ActionChunkBroker(timed, action_horizon=EXECUTE)
random = np.random.default_rng(0)
actions = []
for _ in range(steps):
    images = {f"observation/{name}": random.integers(0, 256, (224, 224, 3), dtype=np.uint8) for name in cameras}
    state = np.zeros(len(metadata["contract"]["state"]), np.float32)
    found = broker.infer({**images, "observation/state": state, "prompt": "lift the cube"})
    actions.append(found["actions"])
try:
    policy.infer({"observation/state": state, "prompt": "lift the cube"})
    refusal = ""
except RuntimeError as error:
    refusal = str(error)
after = policy.infer({**images, "observation/state": state, "prompt": "lift the cube"})
print(
    json.dumps(
        {
            "numpy": np.__version__,
            "looks": len(timed.milliseconds),
            "milliseconds": timed.milliseconds,
            "infer_ms": [reply["policy_timing"]["infer_ms"] for reply in timed.replies],
            "actions": np.stack(actions).tolist(),
            "chunk": list(after["actions"].shape),
            "versions": sorted({reply["model_version"] for reply in timed.replies}),
            "refusal": refusal,
        }
    )
)
