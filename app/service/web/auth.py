"""Who may come in: token, user with password, sessions with CSRF tokens, and a limit on failures. No web code here."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import argon2

from app.configuration.service import WebConfig
from app.service.state.secrets import read_secret
from fusion_core.errors import ConfigError, RunError

__all__ = [
    "MIN_TOKEN_LENGTH",
    "Authenticator",
    "FailureLimit",
    "Identity",
    "Session",
    "Way",
    "hash_password",
    "new_token",
]

MIN_TOKEN_LENGTH = 24
_MIN_PASSWORD_LENGTH = 8
_MAX_PASSWORD_BYTES = 1024
_MAX_SESSIONS = 64
_MAX_ADDRESSES = 1024
_MOST_HASHES = 8  # that wait for each other; more would take the threads that answer


class Way(StrEnum):
    """How a client proved who it is."""

    OPEN = "open"  # no credentials are configured: loopback only
    TOKEN = "token"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that logged in. `csrf` must come back in a header with every request that changes something."""

    user: str
    csrf: str
    expires_s: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. csrf is None for programs with a token, which need none: a foreign page cannot send their header."""

    way: Way
    user: str
    csrf: str | None


class FailureLimit:
    """At most `per_minute` failures of one key (an address) in any minute. Thread-safe, bounded memory."""

    def __init__(self, per_minute: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock_s = per_minute, clock_s
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Seconds until this key may try again; 0 = now."""
        now_s = self._clock_s()
        with self._lock:
            times = self._failures.get(key)
            if times is None:
                return 0.0
            while times and now_s - times[0] >= 60.0:
                times.popleft()
            return 60.0 - (now_s - times[0]) if len(times) >= self._limit else 0.0

    def attempt(self, key: str) -> float:
        """Count an attempt as failed before its outcome is known, so that parallel ones cannot all be tried.

        Returns:
            0 = it may be made, and `succeeded` takes it back; else the seconds to wait, and nothing is counted.
        """
        wait_s = self.wait_s(key)
        now_s = self._clock_s()
        with self._lock:
            times = self._failures.pop(key, None) or deque(maxlen=self._limit)
            full = len(times) >= self._limit and now_s - times[0] < 60.0
            if not full:
                times.append(now_s)
            self._failures[key] = times
            while len(self._failures) > _MAX_ADDRESSES:
                self._failures.popitem(last=False)
            return max(wait_s, 60.0 - (now_s - times[0])) if full else 0.0

    def succeeded(self, key: str) -> None:
        """Take the newest attempt of this key back: it was none that failed."""
        with self._lock:
            times = self._failures.get(key)
            if times:
                times.pop()


class Authenticator:
    """Checks tokens, passwords and sessions. Thread-safe.

    No comparison tells by its time what is wrong; only hashes of tokens and sessions are kept.

    Raises:
        ConfigError: a secret cannot be read, or is too weak.
    """

    def __init__(self, config: WebConfig, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock_s = config, clock_s
        self._lock = threading.Lock()
        self._hashing = threading.Lock()  # argon2 takes 64 MiB: one at a time
        self._hash_queue = threading.BoundedSemaphore(_MOST_HASHES)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._open_csrf = secrets.token_urlsafe(32)
        self._hasher = argon2.PasswordHasher()
        self.failures = FailureLimit(config.failures_per_min, clock_s)
        self._token_digest: bytes | None = None
        self._password_hash = ""
        if config.token_file is not None:
            token = read_secret(config.token_file, "service.web.token_file")
            if len(token) < MIN_TOKEN_LENGTH:
                raise ConfigError(
                    f"service.web.token_file holds {len(token)} characters, wanted at least {MIN_TOKEN_LENGTH};"
                    " `lumitherm service token` makes one"
                )
            self._token_digest = _digest(token)
        if config.password_file is not None:
            self._password_hash = read_secret(config.password_file, "service.web.password_file")
            if not self._password_hash.startswith("$argon2id$"):
                raise ConfigError(
                    "service.web.password_file does not hold an argon2id hash; `lumitherm service password` makes one"
                )

    @property
    def required(self) -> bool:
        """Whether a client must prove who it is."""
        return self._config.has_credentials

    @property
    def has_login(self) -> bool:
        """Whether there is a user with a password."""
        return bool(self._password_hash)

    def identify(self, authorization: str | None, session: str | None) -> Identity | None:
        """Who sends these: the Authorization header and the session cookie. None for a stranger."""
        if authorization is not None and self._token_digest is not None:
            scheme, _, token = authorization.partition(" ")
            same = hmac.compare_digest(_digest(token.strip()), self._token_digest)
            if same and scheme.lower() == "bearer":
                return Identity(Way.TOKEN, "token", None)
        if session:
            found = self._session(session)
            if found is not None:
                return Identity(Way.SESSION, found.user, found.csrf)
        if not self.required:
            return Identity(Way.OPEN, "local", self._open_csrf)
        return None

    def log_in(self, user: str, password: str) -> tuple[str, Session] | None:
        """A new session and the value of its cookie; None when user or password is wrong. Takes about 0.1 s.

        Raises:
            RunError: so many are being checked that this one would wait.
        """
        if not self.has_login or len(password.encode("utf-8", "replace")) > _MAX_PASSWORD_BYTES:
            return None
        if not self._hash_queue.acquire(blocking=False):
            raise RunError(f"{_MOST_HASHES} logins are being checked already; try again in a second")
        try:
            with self._hashing:  # always the whole work, so that time tells nothing of the user's name
                right = self._verify(password)
        finally:
            self._hash_queue.release()
        known = hmac.compare_digest(_digest(user), _digest(self._config.user or ""))
        return self._open_session(user) if right and known else None

    def log_in_by_token(self, token: str) -> tuple[str, Session] | None:
        """A session for a browser whose user has the token; None when it is wrong."""
        if self._token_digest is None or not hmac.compare_digest(_digest(token), self._token_digest):
            return None
        return self._open_session("token")

    def log_out(self, session: str) -> None:
        """End a session; nothing happens if there is none."""
        with self._lock:
            self._sessions.pop(_key(session), None)

    @staticmethod
    def csrf_fits(identity: Identity, header: str | None) -> bool:
        """Whether a request that changes something comes from our own page (or a program)."""
        if identity.csrf is None:
            return True
        return header is not None and hmac.compare_digest(_digest(header), _digest(identity.csrf))

    def _verify(self, password: str) -> bool:
        try:
            return self._hasher.verify(self._password_hash, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    def _open_session(self, user: str) -> tuple[str, Session]:
        value = secrets.token_urlsafe(32)
        session = Session(user, secrets.token_urlsafe(32), self._clock_s() + self._config.session_hours * 3600)
        with self._lock:
            self._sessions[_key(value)] = session
            while len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return value, session

    def _session(self, value: str) -> Session | None:
        key = _key(value)
        with self._lock:
            session = self._sessions.get(key)
            if session is not None and self._clock_s() >= session.expires_s:
                del self._sessions[key]
                return None
            return session


def hash_password(password: str) -> str:
    """An argon2id hash for password_file. Raises ConfigError for a password that is too short."""
    if len(password) < _MIN_PASSWORD_LENGTH:
        raise ConfigError(f"the password has {len(password)} characters, wanted at least {_MIN_PASSWORD_LENGTH}")
    return argon2.PasswordHasher().hash(password)


def new_token() -> str:
    """A random token for token_file, 43 characters."""
    return secrets.token_urlsafe(32)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _key(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
