"""What the endpoint refuses, with the HTTP status. The message is for the client: one sentence with the fix."""

from model.errors import UserError


class Refused(UserError):
    """A request that is not answered with actions. `status` is its HTTP status; a websocket gets the text alone."""

    status = 400
    retry_after: int | None = None


class BadMessage(Refused):
    """The bytes are no message of the protocol."""


class BadObservation(Refused):
    """The message can be read, but its observation does not fit the contract of the policy."""

    status = 422


class TooLarge(Refused):
    status = 413


class Unauthorized(Refused):
    status = 401


class Unavailable(Refused):
    """Nothing is wrong with the request: the server cannot take it now. `retry_after` is in seconds."""

    status = 503

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnsafeAction(Refused):
    """The policy gave an answer that may not reach a robot. The fault is the server's."""

    status = 500
