"""A policy behind an endpoint: asked as a robot asks it, through the robot's own client.

One connection a trial's actor, made at the first look. The server gets the seed of each look's noise, so a served trial
ends as the trial in process does, as far as the server clips nothing.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import UserError
from model.evaluation.actors import ActorLost, Ahead, Look, noise_seed

if TYPE_CHECKING:
    from lingbot_client import PolicyClient

TIMEOUT = 30.0  # seconds for an answer
PATIENCE = 2.0  # seconds for a server that is away: a trial that it spoiled is run again with the evaluation


def going_on(ahead: Ahead, horizon: int) -> dict[str, Any]:
    """What a message says of the chunk that the robot executes meanwhile; nothing where it has been executed to its
    end, as there is nothing to go on from.

    The pull ends where the running chunk does, which is the endpoint's default.

    Args:
        ahead: what goes on.
        horizon: rows of the running chunk when it was new.
    """
    from lingbot_client import running_chunk

    return {} if ahead.period >= horizon else running_chunk(ahead.actions, ahead.delay)


class ServedActor:
    """Asks the endpoint at `url` (ws:// or wss://).

    Args:
        cameras: names of those that the policy wants.
        bundle_digest: of the bundle that must be served: the records name it.
        key: of this robot; empty: none is sent.

    Raises:
        UserError: at the first look, when the server does not serve that bundle.
    """

    needs_images = True

    def __init__(self, url: str, cameras: tuple[str, ...], *, bundle_digest: str, key: str = "") -> None:
        self._url = url
        self._cameras = cameras
        self._digest = bundle_digest
        self._key = key
        self._client: PolicyClient | None = None
        self._latencies: list[float] = []
        self._rows = 0  # of the last chunk
        self.model_version = ""

    def act(self, look: Look) -> np.ndarray:
        from lingbot_client import BadActions, ClientError, NoReply, ServerAway, observation

        assert look.images is not None
        images = {name: look.images[name] for name in self._cameras}
        message = observation(images, look.state, look.instruction, seed=noise_seed(look.seed, look.step))
        try:
            client = self._client or self._connect()
            if look.step == 0:
                client.reset()
            if look.ahead is not None:
                self._check_real_time(client)
                message |= going_on(look.ahead, self._rows)
            actions = client.infer(message)["actions"]
        except BadActions as error:
            actions = error.actions  # the policy's own fault: the trial says what is wrong with them
        except (ServerAway, NoReply) as error:
            self.close()
            raise ActorLost(f"the server {self._url} did not answer: {error}") from error
        except ClientError as error:
            self.close()
            raise ActorLost(f"the server {self._url} refused: {error}") from error
        self._latencies.append(client.latency_ms)
        self._rows = len(actions)
        return actions

    def latencies(self) -> list[float]:
        """Milliseconds of each answer since the last call of this."""
        taken, self._latencies = self._latencies, []
        return taken

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _check_real_time(self, client: "PolicyClient") -> None:
        if not client.real_time:
            raise UserError(
                f"{self._url} does not say that it does real-time chunking, and would answer with fresh chunks: leave "
                "out --real-time, or serve the bundle with `lingbot serve`"
            )

    def _connect(self) -> "PolicyClient":
        from lingbot_client import Backoff, ContractMismatch, Needs, PolicyClient

        try:
            client = PolicyClient(
                self._url,
                needs=Needs(bundle_digest=self._digest),
                key=self._key,
                backoff=Backoff(patience=PATIENCE),
                reply_seconds=TIMEOUT,
            )
        except ContractMismatch as error:
            raise UserError(f"{self._url}: {error}; give the bundle that is served, or serve this one") from error
        self._client = client
        self.model_version = str(client.metadata.get("model_version", ""))
        return client
