"""A small, stateful Threads server that runs without keys, accounts or money.

`make run` starts it as the demo provider, speaking AIML API's dialect; the tests put the same server behind
other dialects and make it fail as vendors fail (`tests/simulators`).

`world` holds the state and knows neither sockets nor time: clock and ids are handed in. `routes` is the
table of operations, `dialect` the data and small functions in which vendors differ, `ask` a request and its
readers, `server` the only file that does I/O.
`model` is the pretend model; its docstring lists the words that steer it. `echo` and `echo_server` put the same model
behind chat completions.
"""

from gateway.demo.dialect import AIMLAPI, Dialect
from gateway.demo.echo_server import EchoServer
from gateway.demo.ground import Ids
from gateway.demo.refusal import Refused
from gateway.demo.server import DemoServer
from gateway.demo.world import World

__all__ = ["AIMLAPI", "DemoServer", "Dialect", "EchoServer", "Ids", "Refused", "World"]
