"""Everything one account owns: pure state, moved only by calls."""

import time
from collections import Counter
from collections.abc import Callable

from tests.simulators.threads_server.files import Files
from tests.simulators.threads_server.ground import Ground, Ids
from tests.simulators.threads_server.runs import Runs
from tests.simulators.threads_server.stores import Stores
from tests.simulators.threads_server.threads import Assistants, Threads


def wall_clock_s() -> int:
    return int(time.time())


class World:
    """The parts, each with its operations, such as `world.runs.get(thread_id, run_id)`.

    Bodies are decoded JSON, queries are mappings of texts. Answers are JSON dictionaries (the stored ones,
    not to be changed), `Content` for bytes, or a list of (event, object) for a streamed run. What is not
    answered is raised as `Refused`.
    """

    def __init__(self, now: Callable[[], int] = wall_clock_s, ids: Ids | None = None) -> None:
        self.ground = Ground(now, ids or Ids())
        self.files = Files(self.ground)
        self.stores = Stores(self.ground, self.files)
        self.assistants = Assistants(self.ground, self.stores)
        self.threads = Threads(self.ground, self.files, self.stores)
        self.runs = Runs(
            self.ground,
            files=self.files,
            stores=self.stores,
            assistants=self.assistants,
            threads=self.threads,
        )

    @property
    def created(self) -> Counter[str]:
        """How many objects of each kind were made, deleted ones included.

        Callers make assistant, thread, message, run, file, vector_store, vector_store_file and file_batch;
        the model makes step, reply and output_file.
        """
        return self.ground.created
