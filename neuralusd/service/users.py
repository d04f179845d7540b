"""Who may use the service: names and their tokens."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from .client import ServiceError, read_private, write_private

SHORTEST = 20
NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
LOCAL = "local"


class Users:
    """Finds the user of a token, in time that says nothing about the tokens there are.

    Args:
        tokens: token to name.
    """

    def __init__(self, tokens: dict[str, str]):
        self._digests = {_digest(token): name for token, name in tokens.items()}

    def find(self, token: str) -> str | None:
        """The name of the user whose token it is."""
        digest, found = _digest(token), None
        for known, name in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found


class TokensFile(Users):
    """Users of a file with a line "name token" for each; `#` begins a comment. It is read again when it changes.

    Raises:
        ServiceError: what is wrong with the file, and the cure.
    """

    def __init__(self, path: Path):
        self.path = path
        self._stamp = self._now()
        super().__init__(read_tokens(path))

    def find(self, token: str) -> str | None:
        stamp = self._now()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                super().__init__(read_tokens(self.path))
            except ServiceError:  # half written, say; those that were known stay
                self._stamp = (0, 0)
        return super().find(token)

    def _now(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size


def read_tokens(path: Path) -> dict[str, str]:
    """Token to name of a tokens file. Raises ServiceError."""
    cure = f"make a token with: neuralusd serve --tokens {path} --new-token NAME"
    try:
        text = read_private(str(path))
    except FileNotFoundError:
        raise ServiceError(f"{path} does not exist; {cure}") from None
    except ServiceError:
        raise ServiceError(f"{path} can be read by others, so its tokens are no secrets: chmod 600 {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"{path} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not NAME.fullmatch(words[0]):
            raise ServiceError(f"{path}, line {number}: not of the form 'name token'; {cure}")
        if len(words[1]) < SHORTEST:
            raise ServiceError(f"{path}, line {number}: a token of less than {SHORTEST} characters; {cure}")
        if words[1] in found or words[0] in found.values():
            raise ServiceError(f"{path}, line {number}: the name or the token is there twice; each has one")
        found[words[1]] = words[0]
    if not found:
        raise ServiceError(f"{path} has no tokens; {cure}")
    return found


def add_user(path: Path, name: str) -> str:
    """Adds a user to a tokens file, which is made where there is none, and returns the token. Raises ServiceError."""
    if not NAME.fullmatch(name):
        raise ServiceError(f"'{name}' is no user's name here: letters, digits and _ . @ - only")
    known = read_tokens(path) if path.exists() else {}
    if name in known.values():
        raise ServiceError(f"{path} has a token for {name}. Remove that line to make a new one.")
    before = path.read_text(encoding="utf-8") if known else "# name token\n"
    token = new_token()
    write_private(os.fspath(path), f"{before.rstrip()}\n{name} {token}\n")
    return token


def own_token(folder: Path) -> str:
    """The token of the user's own service, the same at every start, from a file that only its user can read."""
    path = folder / "token"
    try:
        token = read_private(str(path)).strip()
        if len(token) >= SHORTEST:
            return token
    except FileNotFoundError:
        pass
    except ServiceError:  # others may know it: no longer a token
        path.unlink()
    token = new_token()
    write_private(str(path), token + "\n")
    return token


def new_token() -> str:
    return secrets.token_urlsafe(32)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
