"""The robot's side of a LingBot endpoint: connect, check the contract, ask for actions, play chunks step by step."""

from lingbot_client.backoff import Backoff
from lingbot_client.broker import ActionChunkBroker
from lingbot_client.client import PolicyClient, observation
from lingbot_client.contract import Needs
from lingbot_client.errors import (
    BadActions,
    BadReply,
    Busy,
    ClientError,
    ContractMismatch,
    NoReply,
    NotAllowed,
    Refused,
    ServerAway,
    VersionChanged,
)
from lingbot_client.real_time import RealTimeBroker, running_chunk

__all__ = [
    "ActionChunkBroker",
    "Backoff",
    "BadActions",
    "BadReply",
    "Busy",
    "ClientError",
    "ContractMismatch",
    "Needs",
    "NoReply",
    "NotAllowed",
    "PolicyClient",
    "RealTimeBroker",
    "Refused",
    "ServerAway",
    "VersionChanged",
    "observation",
    "running_chunk",
]
