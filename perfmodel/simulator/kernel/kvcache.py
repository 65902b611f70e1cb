"""KV blocks and the prefix cache, compiled.

A replica owns `capacity` blocks. A prefix hash stands for `span` blocks that requests with the same prefix share; when
no running request holds it any more it stays until its room is needed, least recently used first and, of one request,
the end of the prompt before its beginning (vLLM, automatic prefix caching). A prompt's hashes become shareable when its
prefill ends.
"""

from __future__ import annotations

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.state import Arrays


@inner
def available(x: Arrays, i: int) -> int:
    """Blocks that can be had on replica i, evicting what nobody uses."""
    s = x.replicas[i]
    return s.free + s.idle * s.span


@inner
def _unlink(x: Arrays, i: int, node: int) -> None:
    s, nodes = x.replicas[i], x.nodes
    before, behind = nodes[i, node].before, nodes[i, node].behind
    if before < 0:
        s.first_idle = behind
    else:
        nodes[i, before].behind = behind
    if behind < 0:
        s.last_idle = before
    else:
        nodes[i, behind].before = before
    s.idle -= 1


@inner
def take(x: Arrays, i: int, blocks: int) -> None:
    """Allocate `blocks` blocks, evicting unused prefixes as needed; the caller has checked `available`."""
    s = x.replicas[i]
    while s.free < blocks:
        node = s.first_idle
        _unlink(x, i, node)
        x.where[i, x.nodes[i, node].name] = -1
        x.nodes[i, node].behind = s.empty
        s.empty = node
        s.free += s.span
    s.free -= blocks


@inner
def match(x: Arrays, i: int, r: int, tokens: int) -> tuple[int, int]:
    """Leading hashes of request r resident on replica i, and how many of them nobody uses. One token of `tokens` at
    least must be computed, so a full hit gives up its last hash."""
    s, begin = x.replicas[i], x.requests[r].first_id
    most = min(x.requests[r].last_id - begin, (tokens - 1) // (s.span * s.block))
    unused = 0
    for j in range(most):
        node = x.where[i, x.ids[begin + j]]
        if node < 0:
            return j, unused
        if x.nodes[i, node].users == 0:
            unused += 1
    return most, unused


@inner
def hold(x: Arrays, i: int, r: int, begin: int, end: int) -> None:
    """Request r starts to use its resident hashes number begin to end - 1."""
    first = x.requests[r].first_id
    for j in range(first + begin, first + end):
        node = x.where[i, x.ids[j]]
        if x.nodes[i, node].users == 0:
            _unlink(x, i, int(node))
        x.nodes[i, node].users += 1


@inner
def share(x: Arrays, i: int, r: int) -> None:
    """The prefill of r has ended: its own full prefix blocks become shareable; a copy that exists already is used
    instead and its own blocks are given back."""
    s, q = x.replicas[i], x.requests[r]
    full = min(q.last_id - q.first_id, q.prompt // (s.span * s.block))
    for j in range(q.refs, full):
        name = x.ids[q.first_id + j]
        if x.where[i, name] >= 0:
            hold(x, i, r, j, j + 1)
            s.free += s.span
        else:
            node = s.empty
            s.empty = x.nodes[i, node].behind
            x.where[i, name] = node
            x.nodes[i, node].name = name
            x.nodes[i, node].users = 1
    q.refs = max(q.refs, full)


@inner
def release(x: Arrays, i: int, r: int) -> None:
    """Give back the blocks of request r; what it shares stays in the cache."""
    s, q = x.replicas[i], x.requests[r]
    s.free += q.blocks - q.refs * s.span
    for j in range(q.first_id + q.refs - 1, q.first_id - 1, -1):
        node = x.where[i, x.ids[j]]
        x.nodes[i, node].users -= 1
        if x.nodes[i, node].users == 0:
            x.nodes[i, node].before = s.last_idle
            x.nodes[i, node].behind = -1
            if s.last_idle < 0:
                s.first_idle = node
            else:
                x.nodes[i, s.last_idle].behind = node
            s.last_idle = node
            s.idle += 1
    q.refs = 0


@inner
def next_growth(x: Arrays, i: int) -> int:
    """Blocks that the next decode step of replica i needs."""
    s = x.replicas[i]
    return x.growth[i, (s.count + 1) % s.block]


@inner
def growth(x: Arrays, i: int, first: int, steps: int) -> int:
    """Blocks that decoding sequences need in the decode steps number first to first + steps - 1."""
    block = x.replicas[i].block
    total = 0
    cycles = steps // block
    if cycles > 0:
        for phase in range(block):
            total += x.growth[i, phase]
        total *= cycles
    for step in range(first, first + steps - cycles * block):
        total += x.growth[i, step % block]
    return total


@inner
def steps_within(x: Arrays, i: int, first: int, most: int, room: int) -> int:
    """How many decode steps from number `first` on, up to `most`, fit in `room` blocks."""
    if growth(x, i, first, most) <= room:
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) >> 1
        if growth(x, i, first, middle) <= room:
            low = middle
        else:
            high = middle
    return low
