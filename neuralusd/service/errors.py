"""What the service refuses, with the HTTP status it does so with."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not done: a sentence with the cure, a short word for programs, and an HTTP status."""

    def __init__(self, message: str, code: str, status: int = 400, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.message, self.code, self.status, self.headers = message, code, status, headers or {}


def not_found(what: str) -> Refused:
    """The same for what is not there and for what is another user's, so that nobody learns of it."""
    return Refused(f"There is no such {what}, or it is not yours.", "not_found", 404)
