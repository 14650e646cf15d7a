"""What can keep a robot from its actions. Each is one sentence with the value and what to do."""


class ClientError(Exception):
    """Any of the below."""


class NotAllowed(ClientError):
    """The endpoint wants a key, or another one."""


class ContractMismatch(ClientError):
    """What is served is not for this robot: other cameras, names or sizes."""


class Refused(ClientError):
    """The endpoint answered with a sentence instead of actions; the connection stays."""


class Busy(Refused):
    """The endpoint cannot take the observation now. `seconds` from now it may."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class ServerAway(ClientError):
    """No endpoint could be reached in the time that the robot was ready to wait."""


class NoReply(ClientError):
    """The endpoint took the message and did not answer in time."""


class BadReply(ClientError):
    """What came is no reply of the protocol."""


class BadActions(BadReply):
    """The reply's actions cannot be executed: a wrong shape, or values that are not finite."""

    def __init__(self, message: str, actions: object) -> None:
        super().__init__(message)
        self.actions = actions


class VersionChanged(ClientError):
    """The answer comes from another version than the episode began with: it is not given out. `reset()` begins anew."""
