"""A cluster of three Valkeys for tests: made by its own commands, with no tool but the bundled binary."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis, RedisCluster
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from gateway.store.embedded import find_binary
from gateway.store.slots import is_cluster, seeds_of

_SERVERS = 3
_UP_S = 30


class ValkeyCluster:
    """Its servers, each with a third of the slots. All of this blocks. `start`, then `stop`. After `node_timeout_ms` of
    silence they count one of them as failed."""

    def __init__(self, folder: Path, *, node_timeout_ms: int = 5000) -> None:
        self._folder = folder
        self._node_timeout_ms = node_timeout_ms
        ports = _free_ports(2 * (_SERVERS + 1))
        self._buses = ports[_SERVERS + 1 :]
        self.ports = ports[: _SERVERS + 1]
        """The last is a replica's, if one is added."""
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports[:_SERVERS])

    def server(self, place: int) -> Redis:
        """A client of one server."""
        return Redis(port=self.ports[place], decode_responses=True)

    def start(self) -> None:
        """Takes two seconds: so long a server waits before it serves in a cluster."""
        for place in range(_SERVERS):
            self._spawn(place)
        with ExitStack() as opened:
            servers = [opened.enter_context(self.server(place)) for place in range(_SERVERS)]
            for place, server in enumerate(servers):
                _until(lambda server=server: server.ping())  # type: ignore[misc]
                server.execute_command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
                server.execute_command("CLUSTER", "ADDSLOTSRANGE", *_slots_of(place))
            for place in range(1, _SERVERS):
                servers[0].execute_command("CLUSTER", "MEET", "127.0.0.1", self.ports[place], self._buses[place])
            _until(lambda: all(_is_whole(server) for server in servers))

    def _spawn(self, place: int) -> None:
        folder = self._folder / str(place)
        folder.mkdir(exist_ok=True)
        settings = {
            "port": self.ports[place],
            "cluster-port": self._buses[place],
            "bind": "127.0.0.1",
            "cluster-enabled": "yes",
            "cluster-node-timeout": self._node_timeout_ms,
            "cluster-require-full-coverage": "no",
            "save": "",
            "appendonly": "yes",
            "dir": folder,
        }
        words = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        self.processes.append(subprocess.Popen([find_binary(), *words], stdout=subprocess.DEVNULL))

    def owner_of(self, key: str) -> int:
        """Which server has a key, as long as no slot was moved."""
        slot = key_slot(key.encode())
        return next(place for place in range(_SERVERS) if slot <= _slots_of(place)[1])

    @contextmanager
    def frozen(self, place: int) -> Iterator[None]:
        """The server takes connections and commands meanwhile, and answers nothing. To be over before the others count
        it as failed."""
        self.processes[place].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes[place].send_signal(signal.SIGCONT)

    def add_replica_of(self, place: int) -> None:
        """One more server, which follows the one of that place."""
        self._spawn(_SERVERS)
        with self.server(place) as primary, self.server(_SERVERS) as replica:
            _until(replica.ping)
            primary.execute_command("CLUSTER", "MEET", "127.0.0.1", self.ports[_SERVERS], self._buses[_SERVERS])
            name = primary.execute_command("CLUSTER", "MYID")
            _until(lambda: name in str(replica.execute_command("CLUSTER", "NODES")))
            _until(lambda: replica.execute_command("CLUSTER", "REPLICATE", name))
            _until(lambda: replica.info("replication")["master_link_status"] == "up")

    def wait_for_replica(self, place: int) -> None:
        """Until it has what the server of that place has."""
        with self.server(place) as primary:
            _until(lambda: primary.wait(1, 1000) == 1)

    def moving(self, key: str, *, to: int) -> Moving:
        """The slot of this key begins to move."""
        return Moving(self, key_slot(key.encode()), to)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


class Moving:
    """A slot on its way to another server, as tools move one."""

    def __init__(self, cluster: ValkeyCluster, slot: int, to: int) -> None:
        self._cluster = cluster
        self._slot = slot
        self._to = to
        self._names: list[str] = []
        for place in range(_SERVERS):
            with cluster.server(place) as server:
                self._names.append(str(server.execute_command("CLUSTER", "MYID")))
                if server.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) and place != to:
                    self._source = place
        self._set(to, "IMPORTING", self._names[self._source])
        self._set(self._source, "MIGRATING", self._names[to])

    def _set(self, place: int, *words: str) -> None:
        with self._cluster.server(place) as server:
            server.execute_command("CLUSTER", "SETSLOT", self._slot, *words)

    def move(self, keys: Sequence[str]) -> None:
        with self._cluster.server(self._source) as server:
            server.execute_command("MIGRATE", "127.0.0.1", self._cluster.ports[self._to], "", 0, 5000, "KEYS", *keys)

    def end(self) -> None:
        """The slot is the other server's."""
        for place in (self._to, self._source, *(set(range(_SERVERS)) - {self._to, self._source})):
            self._set(place, "NODE", self._names[self._to])

    def all(self) -> None:
        """All that is left of it moves."""
        with self._cluster.server(self._source) as server:
            while keys := server.execute_command("CLUSTER", "GETKEYSINSLOT", self._slot, 100):
                self.move(keys)
        self.end()


def on_both(metafunc: pytest.Metafunc, *but: str) -> None:
    """Run a test that uses the store on one server, and on a cluster where `long` tests run; but not on a cluster what
    uses one of these fixtures or is marked `one_server`. To be called by `pytest_generate_tests`."""
    uses = set(metafunc.fixturenames)
    if "valkey" in uses and not uses.intersection(but) and not metafunc.definition.get_closest_marker("one_server"):
        metafunc.parametrize("valkey", ["server", pytest.param("cluster", marks=pytest.mark.long)], indirect=True)


def look_behind(url: str, **settings: Any) -> Redis:
    """A client to look behind the gateway's back, of one server or of a cluster. It blocks."""
    if not is_cluster(url):
        return Redis.from_url(url, **settings)
    host, _, port = next(iter(seeds_of(url))).rpartition(":")
    return cast(Redis, RedisCluster(host=host, port=int(port), **settings))


def _slots_of(place: int) -> tuple[int, int]:
    """The first and the last."""
    first, behind = (REDIS_CLUSTER_HASH_SLOTS * edge // _SERVERS for edge in (place, place + 1))
    return first, behind - 1


def _is_whole(server: Redis) -> bool:
    told = str(server.execute_command("CLUSTER", "INFO"))
    return "cluster_state:ok" in told and f"cluster_known_nodes:{_SERVERS}" in told


def _until(happened: Any) -> None:
    give_up = time.monotonic() + _UP_S
    while time.monotonic() < give_up:
        with suppress(RedisError, OSError):
            if happened():
                return
        time.sleep(0.01)
    raise TimeoutError("the cluster does not come up")


def _free_ports(count: int) -> Sequence[int]:
    with ExitStack() as opened:
        taken = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]
