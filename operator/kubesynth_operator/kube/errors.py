"""Failures of a request to the API server, one class for each way of handling them.

    KubeError                   every one of them; carries status code, reason and message
    |- NotFoundError            404: it is not there (any more); often as good as success
    |- AlreadyExistsError       409 AlreadyExists: look at what is there
    |- ConflictError            409 Conflict: decided on an old version; look again, decide again
    |- GoneError                410: a watch or a page is too old; list again
    |- ForbiddenError           403: permissions, quota, admission; a person has to act
    |- InvalidError             400, 413, 422: refused for what it says; trying again cannot help
    |- UnavailableError         429, 5xx, no answer: try again later, perhaps after
                                `retry_after_seconds`

Everything is translated once, in `client`, so that no caller parses messages. Bodies never reach a
message: they may hold what a user would not want in a log.
"""

from __future__ import annotations

import dataclasses

_MESSAGE_CHARACTERS = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """What the API server said, or why it said nothing."""

    status_code: int | None
    reason: str
    message: str
    retry_after_seconds: float | None = None


class KubeError(Exception):
    """A request that did not do what was asked."""

    def __init__(self, request: str, refusal: Refusal) -> None:
        super().__init__(f"{request}: {refusal.reason}: {refusal.message[:_MESSAGE_CHARACTERS]}")
        self.refusal = refusal

    @property
    def status_code(self) -> int | None:
        """HTTP status, or None when there was no answer."""
        return self.refusal.status_code

    @property
    def retry_after_seconds(self) -> float | None:
        """What the server asked for, or None."""
        return self.refusal.retry_after_seconds

    @property
    def message(self) -> str:
        """The server's own sentence."""
        return self.refusal.message[:_MESSAGE_CHARACTERS]


class NotFoundError(KubeError):
    """The object, or its whole kind, is not there."""


class AlreadyExistsError(KubeError):
    """An object of that name is there already."""


class ConflictError(KubeError):
    """A precondition failed: resourceVersion, uid, or another field manager."""


class GoneError(KubeError):
    """The resource version is too old to continue from."""


class ForbiddenError(KubeError):
    """Not allowed by RBAC, a quota or an admission plugin."""


class InvalidError(KubeError):
    """The API server does not accept what was sent."""


class UnavailableError(KubeError):
    """The API server is busy, failing, or cannot be reached."""


_BY_STATUS: dict[int, type[KubeError]] = {
    400: InvalidError,
    401: UnavailableError,  # the token is being renewed
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidError,
    422: InvalidError,
}


def from_refusal(request: str, refusal: Refusal) -> KubeError:
    """Return the error for an answer that is not a success."""
    if refusal.status_code == 409 and refusal.reason == "AlreadyExists":
        return AlreadyExistsError(request, refusal)
    kind = _BY_STATUS.get(refusal.status_code or 0, UnavailableError)
    return kind(request, refusal)
