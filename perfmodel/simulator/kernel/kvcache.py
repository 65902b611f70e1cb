"""KV blocks and the prefix cache, compiled.

A replica owns `total_blocks` KV blocks. A prefix hash stands for `blocks_per_hash` of them, which requests with the
same prefix share. When no running request uses a hash any more, its blocks stay in the cache until they are needed:
hashes are evicted least recently used first and, of one request, the end of the prompt before its beginning (vLLM,
automatic prefix caching). The hashes of a prompt become shareable when its prefill ends.

Names as in `perfmodel.simulator.kernel.admission`; `node` is the index of a hash's record in the prefix cache.
"""

from __future__ import annotations

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.state import Arrays


@inner
def available_blocks(arrays: Arrays, i: int) -> int:
    """Blocks of replica i that are free or can be freed by evicting prefixes that nobody uses."""
    replica = arrays.replicas[i]
    blocks: int = replica.free_blocks + replica.evictable_nodes * replica.blocks_per_hash
    return blocks


@inner
def _unlink(arrays: Arrays, i: int, node: int) -> None:
    """Take a node out of the list of unused nodes."""
    replica, nodes = arrays.replicas[i], arrays.nodes
    before, behind = nodes[i, node].before, nodes[i, node].behind
    if before < 0:
        replica.lru_first = behind
    else:
        nodes[i, before].behind = behind
    if behind < 0:
        replica.lru_last = before
    else:
        nodes[i, behind].before = before
    replica.evictable_nodes -= 1


@inner
def allocate(arrays: Arrays, i: int, blocks: int) -> None:
    """Allocate `blocks` blocks, evicting unused prefixes as needed; the caller has checked `available_blocks`."""
    replica = arrays.replicas[i]
    while replica.free_blocks < blocks:
        node = replica.lru_first
        _unlink(arrays, i, node)
        arrays.node_of_hash[i, arrays.nodes[i, node].hash] = -1
        arrays.nodes[i, node].behind = replica.first_empty_node
        replica.first_empty_node = node
        replica.free_blocks += replica.blocks_per_hash
    replica.free_blocks -= blocks


@inner
def match_prefix(arrays: Arrays, i: int, r: int, tokens: int) -> tuple[int, int]:
    """Leading hashes of request r that replica i has in its prefix cache, and how many of those nobody uses.

    At least one of the `tokens` of the prompt must be computed, so a full hit gives up its last hash.
    """
    replica, begin = arrays.replicas[i], arrays.requests[r].hash_begin
    most = min(arrays.requests[r].hash_end - begin, (tokens - 1) // (replica.blocks_per_hash * replica.block_tokens))
    unused = 0
    for j in range(most):
        node = arrays.node_of_hash[i, arrays.hash_ids[begin + j]]
        if node < 0:
            return j, unused
        if arrays.nodes[i, node].users == 0:
            unused += 1
    return most, unused


@inner
def hold_hashes(arrays: Arrays, i: int, r: int, begin: int, end: int) -> None:
    """Request r starts to use its hashes number `begin` to `end` - 1, all of them in the prefix cache."""
    first = arrays.requests[r].hash_begin
    for j in range(first + begin, first + end):
        node = arrays.node_of_hash[i, arrays.hash_ids[j]]
        if arrays.nodes[i, node].users == 0:
            _unlink(arrays, i, int(node))
        arrays.nodes[i, node].users += 1


@inner
def publish_prefix(arrays: Arrays, i: int, r: int) -> None:
    """Put the full prefix blocks of request r, whose prefill has ended, into the prefix cache.

    Where another request has put the same hash there meanwhile, r uses that copy and gives back its own blocks.
    """
    replica, request = arrays.replicas[i], arrays.requests[r]
    full = min(
        request.hash_end - request.hash_begin, request.prompt // (replica.blocks_per_hash * replica.block_tokens)
    )
    for j in range(request.hashes_held, full):
        name = arrays.hash_ids[request.hash_begin + j]
        if arrays.node_of_hash[i, name] >= 0:
            hold_hashes(arrays, i, r, j, j + 1)
            replica.free_blocks += replica.blocks_per_hash
        else:
            node = replica.first_empty_node
            replica.first_empty_node = arrays.nodes[i, node].behind
            arrays.node_of_hash[i, name] = node
            arrays.nodes[i, node].hash = name
            arrays.nodes[i, node].users = 1
    request.hashes_held = max(request.hashes_held, full)


@inner
def release(arrays: Arrays, i: int, r: int) -> None:
    """Give back the blocks of request r; blocks of its prefix hashes stay in the prefix cache."""
    replica, request = arrays.replicas[i], arrays.requests[r]
    replica.free_blocks += request.blocks - request.hashes_held * replica.blocks_per_hash
    for j in range(request.hash_begin + request.hashes_held - 1, request.hash_begin - 1, -1):
        node = arrays.node_of_hash[i, arrays.hash_ids[j]]
        arrays.nodes[i, node].users -= 1
        if arrays.nodes[i, node].users == 0:
            arrays.nodes[i, node].before = replica.lru_last
            arrays.nodes[i, node].behind = -1
            if replica.lru_last < 0:
                replica.lru_first = node
            else:
                arrays.nodes[i, replica.lru_last].behind = node
            replica.lru_last = node
            replica.evictable_nodes += 1
    request.hashes_held = 0


@inner
def kv_tokens(arrays: Arrays, i: int, r: int, made: int) -> int:
    """KV tokens of request r after `made` steps made its tokens; the last token made has no KV yet."""
    tokens: int = arrays.requests[r].prompt + int(arrays.replicas[i].growth * max(made - 1, 0) + 0.5)
    return tokens


@inner
def steps_of_room(arrays: Arrays, i: int, tokens: int) -> int:
    """Decode steps that the last block of a sequence of `tokens` KV tokens has room for on replica i."""
    replica = arrays.replicas[i]
    room = (-tokens) % replica.block_tokens
    steps: int = int(room / replica.growth)
    return steps


@inner
def blocks_needed_next(arrays: Arrays, i: int) -> int:
    """Blocks that the next decode step of replica i needs, for the sequences whose last block is full."""
    replica = arrays.replicas[i]
    blocks: int = arrays.block_growth[i, (replica.decode_steps + 1) % replica.growth_steps] * replica.growth_blocks
    return blocks


@inner
def blocks_needed(arrays: Arrays, i: int, first: int, steps: int) -> int:
    """Blocks that decoding sequences need in the decode steps number `first` to `first` + `steps` - 1."""
    block = arrays.replicas[i].growth_steps
    total = 0
    cycles = steps // block
    if cycles > 0:
        for phase in range(block):
            total += arrays.block_growth[i, phase]
        total *= cycles
    for step in range(first, first + steps - cycles * block):
        total += arrays.block_growth[i, step % block]
    blocks: int = total * arrays.replicas[i].growth_blocks
    return blocks


@inner
def steps_that_fit(arrays: Arrays, i: int, first: int, most: int, blocks: int) -> int:
    """How many decode steps from number `first` on, up to `most`, need no more than `blocks` blocks."""
    if blocks_needed(arrays, i, first, most) <= blocks:
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) >> 1
        if blocks_needed(arrays, i, first, middle) <= blocks:
            low = middle
        else:
            high = middle
    return low
