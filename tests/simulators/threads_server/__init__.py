"""A small, stateful Threads server: what a vendor keeps that has Threads of its own. The simulators put it behind their
dialects and make it fail as vendors fail.

`world` holds the state and knows neither sockets nor time: clock and ids are handed in. `routes` is the
table of operations, `dialect` the data and small functions in which vendors differ, `ask` a request and its
readers, `server` the only file that does I/O.
`model` is the pretend model; its docstring lists the words that steer it.
"""

from tests.simulators.threads_server.dialect import AIMLAPI, Dialect
from tests.simulators.threads_server.ground import Ids
from tests.simulators.threads_server.refusal import Refused
from tests.simulators.threads_server.server import ThreadsServer
from tests.simulators.threads_server.world import World

__all__ = ["AIMLAPI", "Dialect", "Ids", "Refused", "ThreadsServer", "World"]
