"""Real Redis servers, each in a folder of its own, on a port that was free, gone when they are left."""

import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from .cache import built
from .debian import Suite, bootstrap
from .processes import LabError, end_session, must, need, run

START_TIMEOUT_S: Final = 20.0
COMMAND_TIMEOUT_S: Final = 10.0

_PACKAGES: Final[dict[Suite, tuple[str, ...]]] = {
    "bookworm": ("redis-server",),
    "trixie": ("redis-server", "valkey-server"),
}

Command = Callable[[Sequence[str]], list[str]]
"""Makes the command line that runs another one in some other place."""


_PORTS: Final = range(10_000, 30_000)
"""Below those that the kernel gives to whoever asks for any (ip_local_port_range)."""
_TRIED: Final = itertools.count()


def free_port() -> int:
    """A port that nobody listens on, and that no other process of tests is given next."""
    while True:
        port = _PORTS[(os.getpid() * 997 + next(_TRIED)) % len(_PORTS)]
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class RedisServer:
    """A server that runs while it is entered. Options are those of redis.conf, as words of the command line."""

    def __init__(
        self, folder: Path, *options: str, port: int | None = None, program: Path | None = None, within: Command = list
    ) -> None:
        self.folder = folder
        self.port = free_port() if port is None else port
        self._options = options
        self._program = program
        self._within = within
        self._process: subprocess.Popen[Any] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "redis.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [
            str(self._program or _program(self.folder)),
            *("--port", str(self.port), "--dir", str(self.folder), "--logfile", str(self.folder / "redis.log")),
            *("--save", "", "--enable-debug-command", "yes"),
            *self._options,
        ]
        self._process = subprocess.Popen(
            self._within(words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_why: object) -> None:
        if self._process is not None:
            end_session(self._process.pid)
            self._process.wait()

    def _wait(self) -> None:
        ends_at = time.monotonic() + START_TIMEOUT_S
        assert self._process is not None
        while not self._ready():
            if time.monotonic() > ends_at or self._process.poll() is not None:
                said = self.log[-1000:] if (self.folder / "redis.log").exists() else ""
                message = f"the server did not start: {said}"
                raise LabError(message)
            time.sleep(0.02)

    def _ready(self) -> bool:
        with suppress(OSError):
            return "eady to accept connections" in self.log
        return False

    def cli(self, *words: str, user: Sequence[str] = ()) -> str:
        """What redis-cli says to a command."""
        need("redis-cli")
        asked = ["redis-cli", "-p", str(self.port), *user, *words]
        return must(self._within(asked), timeout_s=COMMAND_TIMEOUT_S).strip()


def _program(folder: Path) -> Path:
    """The server of Debian 12: one program with redis-check-rdb, told apart by its name; so no service is installed."""
    need("redis-check-rdb")
    link = folder / "redis-server"
    if not link.exists():
        link.symlink_to(shutil.which("redis-check-rdb", path="/usr/bin:/usr/sbin:/bin") or "/usr/bin/redis-check-rdb")
    return link


def certificates(
    folder: Path, name: str = "localhost", *, expired: bool = False, common_name_only: bool = False
) -> tuple[Path, Path, Path]:
    """A new authority's certificate, and a server's certificate and key signed by it."""
    need("openssl")
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = folder / "ca.pem", folder / "ca.key"
    certificate, key, request = folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.csr"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    if not authority.exists():
        # Python 3.13 asks an authority for its key usage, and a certificate for its authority's key (RFC 5280, 4.2.1).
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        _openssl("req", "-x509", *kind, *usage, "-subj", "/CN=lab", "-keyout", authority_key, "-out", authority)
    _openssl("req", *kind, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
    extensions = folder / f"{name}.ext"
    names = "" if common_name_only else f"subjectAltName=DNS:{name}\n"
    extensions.write_text(f"{names}authorityKeyIdentifier=keyid\n")
    signing: list[str | Path] = ["-CA", authority, "-CAkey", authority_key, "-CAcreateserial", "-extfile", extensions]
    if expired:
        _sign_in_the_past(folder, request, certificate, extensions)
    else:
        _openssl("x509", "-req", "-in", request, *signing, "-days", "30", "-out", certificate)
    return authority, certificate, key


def _sign_in_the_past(folder: Path, request: Path, certificate: Path, extensions: Path) -> None:
    """Sign with a past date, which `openssl ca` can in all versions."""
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("1000\n")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=lab\n[lab]\n"
        f"database={folder}/index.txt\nserial={folder}/serial\nnew_certs_dir={folder}\n"
        f"certificate={folder}/ca.pem\nprivate_key={folder}/ca.key\ndefault_md=sha256\npolicy=any\n"
        "[any]\ncommonName=supplied\n"
    )
    _openssl(
        *("ca", "-batch", "-config", folder / "ca.cnf", "-extfile", extensions, "-in", request, "-out", certificate),
        *("-notext", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z"),
    )


def _openssl(*words: str | Path) -> None:
    done = run(["openssl", *map(str, words)], timeout_s=COMMAND_TIMEOUT_S)
    if done.returncode != 0:
        message = f"openssl {words[0]}: {done.stderr[-500:]}"
        raise LabError(message)


def within(suite: Suite, folder: Path) -> Command:
    """Run commands in a fresh Debian that has Redis and Valkey; the folder, below /tmp, is the same inside."""

    def make(place: Path) -> None:
        bootstrap(suite, _PACKAGES[suite], place / "root", slim=True)

    root = built(f"redis-{suite}", f"1 {suite} {_PACKAGES[suite]}", make) / "root"
    script = (
        'mount -t tmpfs lab "$1/tmp" && mkdir -p "$1$2" && mount --bind "$2" "$1$2" && root=$1 && shift 2 && '
        'exec chroot "$root" "$@"'
    )
    return lambda words: ["unshare", "--mount", "sh", "-c", script, "sh", str(root), str(folder), *words]
