"""A replica of the embedded index that several holders read at once."""

import threading

from llm_engineering.adapters.edge_shard import EdgePoints
from llm_engineering.adapters.replicas import Lock, Replica


class LoadedReplica:
    """A loaded replica and its shared lock, closed when the last holder lets go. The creator is the first holder."""

    def __init__(self, replica: Replica, lock: Lock) -> None:
        self.id = replica.id
        self._lock = lock
        self._holders = 1
        self._counting = threading.Lock()
        try:
            self.points = EdgePoints.load(replica.shard)
        except BaseException:
            lock.release()
            raise

    def hold(self) -> None:
        """One holder more."""
        with self._counting:
            self._holders += 1

    def let_go(self) -> None:
        """One holder less; the last one closes it."""
        with self._counting:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.points.close()
            self._lock.release()
