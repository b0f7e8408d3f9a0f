"""Operations on served threads, each answered as a vendor would: with a status, an object and internal ids.

What a request may say has been said in `requests`; `serving_objects` and `serving_runs` do it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from gateway.attempts import Sending
from gateway.engine import refusals
from gateway.engine.asked import Asked, refuse_erased
from gateway.engine.attaching import Attaching
from gateway.engine.running import Running
from gateway.engine.serving_objects import ServingObjects
from gateway.engine.serving_runs import ServingRuns
from gateway.engine.store.ids import PREFIXES
from gateway.engine.store.stored import Stored
from gateway.engine.vector_stores import VectorStores, VendorRefused
from gateway.errors import NEVER_REPEAT, GatewayError, envelope, store_unavailable, unknown_id
from gateway.operations import Operation
from gateway.phases.send import Response
from gateway.store.connection import StoreAway
from gateway.store.switches import IsErased, nobody
from gateway.telemetry import Record

_ID = re.compile(f"({'|'.join(map(re.escape, PREFIXES.values()))})[A-Za-z0-9]{{24}}")


class Serving:
    """Lives as long as the process. For a tenant that `is_erased` nothing is done. `clock` tells seconds since 1970."""

    def __init__(
        self,
        stored: Stored,
        running: Running,
        stores: VectorStores,
        *,
        is_erased: IsErased = nobody,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._is_erased = is_erased
        self._clock = clock
        served = ServingObjects(stored, running, Attaching(stores, stored.threads), is_erased)
        self._operations = {**served.operations, **ServingRuns(stored, running, served).operations}

    async def __call__(self, sending: Sending, record: Record) -> Response:
        """As a vendor would answer. Raises GatewayError 503 when the store is away."""
        try:
            return await self._answer(sending, record)
        except VendorRefused as refused:
            return refused.response
        except StoreAway as exc:
            raise _unavailable(sending.operation, exc) from exc
        except GatewayError as error:
            return Response(error.status, error.headers, envelope(error))

    async def _answer(self, sending: Sending, record: Record) -> Response:
        answer = self._operations.get(sending.operation.name)
        if answer is None:
            raise refusals.not_served(sending.operation.name)
        refuse_erased(self._is_erased, sending.tenant)  # since it was let in
        for kind, internal in sending.ids.items():
            if kind in PREFIXES and not _ID.fullmatch(internal):  # of a provider that was forwarded to before
                raise unknown_id(kind, internal)
        return await answer(Asked(sending, record, self._clock()))


def _unavailable(operation: Operation, away: StoreAway) -> GatewayError:
    """What was under way when the store went away may have been done: the SDKs must not do it again by themselves, and
    a repeat with the same `Idempotency-Key` must not either."""
    cause = away.__cause__
    may_be_done = isinstance(cause, RedisTimeout | RedisConnectionError) and not isinstance(cause, BusyLoadingError)
    if operation.is_safe or not may_be_done:
        return store_unavailable("a served thread")
    error = store_unavailable("a served thread", "look whether this was done before you repeat it")
    error.headers, error.may_have_run = {**error.headers, **NEVER_REPEAT}, True
    return error
