"""Secrets come from files that others cannot read, or from systemd's credentials; never from the configuration."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fusion_core.errors import ConfigError
from fusion_core.files import open_plain

__all__ = ["CREDENTIAL", "read_secret"]

CREDENTIAL = "credential:"
_MAX_BYTES = 8192


def read_secret(path: Path, what: str) -> str:
    """The first line of a secret's file, without its end of line.

    Args:
        path: a file of this user that nobody else may read, or credential:NAME for systemd's LoadCredential.
        what: the key of the configuration, for messages.

    Raises:
        ConfigError: there is no such file, others may read it, or it is empty. No message holds the secret.
    """
    text = str(path)
    if text.startswith(CREDENTIAL):
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        name = text.removeprefix(CREDENTIAL)
        if not folder:
            raise ConfigError(
                f"{what} is {text}, but there is no CREDENTIALS_DIRECTORY; start it by systemd"
                f" with LoadCredential={name}:FILE"
            )
        if not name or "/" in name or name.startswith("."):
            raise ConfigError(f"{what} is {text}; wanted credential:NAME with the name of a credential")
        path = Path(folder) / name
    try:
        with open_plain(path) as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{what}: {path} cannot be read ({error.strerror or error}); wanted the secret in its first line"
        ) from error
    if not text.startswith(CREDENTIAL) and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{what}: {path} can be read by others; do `chmod 600 {path}`")
    lines = data.decode("utf-8", "replace").splitlines()
    secret = lines[0].strip() if lines and len(data) <= _MAX_BYTES else ""
    if not secret:
        raise ConfigError(f"{what}: {path} is empty or longer than {_MAX_BYTES} bytes; wanted the secret in one line")
    return secret
