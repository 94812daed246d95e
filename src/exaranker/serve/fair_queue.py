"""Inputs of many requests that wait for the model, handed out in batches of one static length, each request in turn.

A request of a thousand documents must not keep a small one waiting. So each input has a turn: the tokens of its own
request that go before it, counted from where the queue stood when the request came (start-time fair queueing: Goyal,
Vin and Cheng, 1996). A batch takes the inputs of one static length whose turns are first, and fills room that is
left with shorter ones. If few wait, it has few rows: who asks for two passages does not wait for sixteen.
"""

import heapq
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from exaranker.rank.length_buckets import BatchShape, TextBatch, batch_shape, static_length, text_batch

FEW = 8  # one in so many of a batch's rows: a second static shape of each length, which is compiled once more

Owner = TypeVar("Owner")


class Taken(NamedTuple, Generic[Owner]):
    """Inputs that are scored together: each member is an owner and the index of one of its inputs."""

    members: list[tuple[Owner, int]]
    num_tokens: int  # without padding
    texts: TextBatch  # of the members, in their order


class _Waiting(NamedTuple, Generic[Owner]):
    turn: int
    arrival: int  # no two are equal
    owner: Owner
    place: int
    tokens: Sequence[int]


class FairQueue(Generic[Owner]):
    """Not thread-safe: its user holds a lock.

    >>> queue = FairQueue(max_length=512, token_budget=64, devices=1)
    >>> queue.add("long", [[1] * 20] * 9)
    >>> queue.take().members, queue.tokens
    ([('long', 0), ('long', 1), ('long', 2)], 120)
    >>> queue.add("short", [[1] * 20])
    >>> queue.take().members
    [('short', 0), ('long', 3), ('long', 4)]
    """

    def __init__(self, max_length: int, token_budget: int, devices: int):
        self.tokens = 0  # of all inputs that wait
        self._max_length = max_length
        self._token_budget = token_budget
        self._devices = devices
        self._waiting: dict[int, list[_Waiting[Owner]]] = {}  # static length -> heap
        self._turn = 0  # of the last batch
        self._arrivals = 0

    def add(self, owner: Owner, inputs: Sequence[Sequence[int]]) -> None:
        """Lets the inputs of a request wait."""
        turn = self._turn
        for index, tokens in enumerate(inputs):
            length = static_length(len(tokens), self._max_length)
            waiting = _Waiting(turn, self._arrivals, owner, index, tokens)
            heapq.heappush(self._waiting.setdefault(length, []), waiting)
            self._arrivals += 1
            turn += len(tokens)
        self.tokens += turn - self._turn

    def take(self) -> Taken[Owner] | None:
        """The next batch, or None if nothing waits."""
        heads = [(heap[0][:2], length) for length, heap in self._waiting.items() if heap]
        if not heads:
            return None
        (turn, _), length = min(heads)
        self._turn = max(self._turn, turn)
        shape = batch_shape(length, self._token_budget, self._devices)
        groups = [self._take_group(shape) for _ in range(self._devices)]
        taken = [item for group in groups for item in group]
        sizes, few = [len(group) for group in groups], max(1, shape.rows // FEW)
        if len(taken) <= few * self._devices:
            shape = shape._replace(rows=few, tokens=few * length)
            sizes = [min(few, len(taken) - start) for start in range(0, len(taken), few)]
        num_tokens = sum(len(item.tokens) for item in taken)
        self.tokens -= num_tokens
        texts = text_batch([item.tokens for item in taken], list(range(len(taken))), sizes, shape)
        return Taken([(item.owner, item.place) for item in taken], num_tokens, texts)

    def drop(self, owner: Owner) -> None:
        """Forgets the inputs of a request that still wait."""
        for length, heap in self._waiting.items():
            kept = [item for item in heap if item.owner is not owner]
            self.tokens -= sum(len(item.tokens) for item in heap) - sum(len(item.tokens) for item in kept)
            heapq.heapify(kept)
            self._waiting[length] = kept

    def _take_group(self, shape: BatchShape) -> list[_Waiting[Owner]]:
        """What one device is given of a batch."""
        taken: list[_Waiting[Owner]] = []
        room = shape.tokens
        for length in sorted((length for length in self._waiting if length <= shape.length), reverse=True):
            heap = self._waiting[length]
            while heap and len(taken) < shape.rows and len(heap[0].tokens) <= room:
                taken.append(heapq.heappop(heap))
                room -= len(taken[-1].tokens)
        return taken
