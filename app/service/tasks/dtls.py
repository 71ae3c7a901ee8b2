"""Key and certificate of one WebRTC connection, on the one curve that every WebRTC program must know (RFC 8827)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["make_identity"]

_DAYS = 30


def make_identity(folder: Path) -> tuple[Path, Path] | None:
    """Certificate and key as PEM files in `folder`, a folder of this user alone; None where there is no `openssl`.

    FFmpeg would make its own. Built with GnuTLS, as in PyAV's wheels, that is on a smaller curve, with which OpenSSL
    and others end the handshake.

    Raises:
        OSError, subprocess.SubprocessError: it could not be made.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(_DAYS)]
    command = [openssl, "req", "-x509", *kind, "-subj", "/CN=lumitherm", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    return certificate, key
