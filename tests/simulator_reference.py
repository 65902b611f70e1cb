"""The simulator's meaning, written plainly and slowly: one iteration at a time, one object a request, nothing skipped.

It shares the description of traffic and pools with the product and no code of its loop; step times come as a plain
function of (prompt tokens, mean keys, sequences, mean context).
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

import numpy as np

from perfmodel.simulator import Prefixes

INF = math.inf


@dataclass
class Sequence:
    number: int
    prompt: int
    output: int
    reserve: int
    hashes: list
    emitted: int = 0
    stored: int = 0  # tokens of KV it holds
    todo: int = 0
    at_hand: str = ""  # "", "pool" or "host"
    shared: int = 0  # prefix hashes held
    blocks: int = 0
    decoding: bool = False
    ready: float = 0.0
    issued: float = math.nan
    admitted: float = math.nan
    first: float = math.nan
    finish: float = math.nan
    token_times: list = field(default_factory=list)
    preempted: int = 0
    cached: int = 0
    replica: int = -1
    prefiller: int = -1


class Replica:
    def __init__(self, index, pool, hash_tokens):
        self.index, self.pool, self.policy = index, pool, pool.policy
        self.block = pool.policy.kv_block
        self.capacity = int(pool.kv_tokens) // self.block
        self.prefix = pool.policy.prefix_cache and hash_tokens > 0 and pool.role != "decode"
        self.hash_tokens = hash_tokens
        self.span = hash_tokens // self.block if self.prefix else 1
        self.waiting, self.running = deque(), []
        self.sending = {}  # sequences whose KV waits to be sent -> blocks
        self.users, self.unused = {}, OrderedDict()  # prefix hash -> users; resident but unused, oldest first
        self.end, self.step = INF, None
        self.link = self.front = self.began = self.seen = self.streamed = 0.0
        self.used_most = 0
        self.held_steps = -1  # decode steps since prompts are held back for more, -1: none is
        self.late = []  # sequences whose first or last token was made just now, where clients get it a step later

    def most_seqs(self, count):
        limits = [self.policy.max_num_seqs, self.capacity, count]
        if not self.policy.prefill_first:
            limits.append(self.policy.max_num_batched_tokens)
        return int(min(limits))

    def held(self):
        shared = (len(self.users) + len(self.unused)) * self.span
        private = sum(s.blocks - s.shared * self.span for s in [*self.running, *self.sending])
        return shared + private

    def available(self):
        return self.capacity - self.held() + len(self.unused) * self.span

    def evict_down(self):
        while self.held() > self.capacity:
            self.unused.popitem(last=False)
        self.used_most = max(self.used_most, self.held())
        assert self.held() <= self.capacity

    def use(self, name):
        self.unused.pop(name, None)
        self.users[name] = self.users.get(name, 0) + 1

    def release(self, sequence):
        for name in reversed(sequence.hashes[: sequence.shared]):
            self.users[name] -= 1
            if self.users[name] == 0:
                del self.users[name]
                self.unused[name] = None
        sequence.shared = sequence.blocks = 0


class Reference:
    def __init__(self, traffic, pools, reserve, step_time, router="round_robin"):
        self.traffic, self.router, self.step_time = traffic, router, step_time
        prefixes = traffic.prefixes or Prefixes(np.zeros(len(traffic) + 1, int), np.zeros(0, int), 0)
        first = prefixes.offsets
        self.sequences = [
            Sequence(
                r,
                int(traffic.input_tokens[r]),
                int(traffic.output_tokens[r]),
                int(reserve[r]),
                list(prefixes.hashes[first[r] : first[r + 1]]),
            )
            for r in range(len(traffic))
        ]
        self.replicas = []
        for pool in pools:
            for _ in range(pool.replicas):
                self.replicas.append(Replica(len(self.replicas), pool, prefixes.tokens))
        self.turn = {"entry": 0, "decode": 0}
        self.pending = []  # (time, number) of arrivals to come
        self.steps = 0
        self.step_gaps = []
        if traffic.concurrency:
            self.pending = [(0.0, r) for r in range(traffic.concurrency)]
            self.next_user = traffic.concurrency
        else:
            self.pending = [(float(t), r) for r, t in enumerate(traffic.arrival)]
            self.next_user = len(traffic)

    # -- events

    def run(self):
        while True:
            self.pending.sort()
            when = self.pending[0][0] if self.pending else INF
            replica = min(self.replicas, key=lambda p: (p.end, p.index))
            if when == INF and replica.end == INF:
                return self
            if when <= replica.end:
                self.appear(self.sequences[self.pending.pop(0)[1]], when)
            else:
                self.boundary(replica, replica.end)

    def choose(self, sequence, kind):
        among = [p for p in self.replicas if (p.pool.role == "decode") == (kind == "decode")]
        if self.router == "round_robin" and len(among) > 1:
            self.turn[kind] += 1
            return among[(self.turn[kind] - 1) % len(among)]
        owned = {p.index: [s for s in self.sequences if s.replica == p.index and math.isnan(s.finish)] for p in among}
        if self.router == "least_loaded":
            return min(among, key=lambda p: (sum(s.prompt for s in owned[p.index]), p.index))
        return min(among, key=lambda p: (len(owned[p.index]), p.index))

    def appear(self, sequence, time):
        ready = time
        if sequence.at_hand == "pool":
            home, replica = self.replicas[sequence.prefiller], self.replicas[sequence.replica]
            del home.sending[sequence]
            sequence.blocks, sequence.shared = home.kept.pop(sequence.number)
            home.release(sequence)
            if home.step is None and home.waiting:
                home.end = max(time, home.waiting[0].ready)
        else:
            replica = self.choose(sequence, "entry")
            sequence.issued, sequence.replica = time, replica.index
            if replica.policy.serial_front_end:
                ready = max(time, replica.front)
            ready += replica.policy.request_time + replica.policy.tokenize_time * sequence.prompt
            replica.front = ready
        sequence.ready = ready
        replica.waiting.append(sequence)
        if replica.step is None and replica.waiting[0] is sequence:
            replica.end = ready

    def boundary(self, replica, time):
        replica.seen = out = time
        if replica.step is not None:
            decoding, fresh = replica.step
            replica.step = None
            tokens = (len(decoding) + len(fresh)) * replica.policy.streaming_token
            replica.streamed = max(replica.streamed, time) + tokens
            out = max(time, replica.streamed - tokens / 2)
            self.end_step(replica, decoding, fresh, time)
            if replica.policy.schedules_ahead and any(s.emitted < s.output for s in replica.running if s.emitted):
                replica.seen = replica.began
        while self.pending and min(self.pending)[0] <= time:
            self.pending.sort()
            self.appear(self.sequences[self.pending.pop(0)[1]], time)
        self.plan(replica, time)
        handed = replica.end if replica.step is not None else time
        if replica.policy.streaming_token > 0 and replica.pool.role == "both":
            handed = out
        for sequence, which in replica.late:
            setattr(sequence, which, handed)
            if which == "finish":
                self.ask_again(handed)
        replica.late = []

    def leave(self, replica, sequence, time):
        replica.release(sequence)
        replica.running.remove(sequence)
        sequence.finish = time
        if self.late(replica):
            replica.late.append((sequence, "finish"))
        else:
            self.ask_again(time)

    def ask_again(self, time):
        if self.next_user < len(self.sequences):
            self.pending.append((time + self.traffic.think, self.next_user))
            self.next_user += 1

    @staticmethod
    def late(replica):
        policy = replica.policy
        streamed = policy.streaming_token > 0 and replica.pool.role == "both"
        return streamed or (policy.hands_on_late and replica.pool.role != "prefill")

    def end_step(self, replica, decoding, fresh, time):
        ending = []
        if decoding and replica.held_steps >= 0:
            replica.held_steps += 1
        for sequence in decoding:
            sequence.emitted += 1
            sequence.token_times.append(time)
            if sequence.emitted == sequence.output:
                ending.append(sequence)
        if replica.policy.batching == "static":
            for sequence in fresh:
                sequence.emitted, sequence.first, sequence.prefiller = 1, time, replica.index
                sequence.token_times.append(time)
            if all(s.emitted == s.output for s in replica.running):
                for sequence in list(replica.running):
                    self.leave(replica, sequence, time)
            return
        for sequence in sorted(ending, key=lambda s: s.number):
            self.leave(replica, sequence, time)
        for sequence in fresh:
            sequence.emitted += 1
            sequence.token_times.append(time)
            if math.isnan(sequence.first):
                sequence.first, sequence.prefiller = time, replica.index
                if self.late(replica):
                    replica.late.append((sequence, "first"))
            if replica.prefix:
                self.share(replica, sequence)
            if sequence.emitted == sequence.output:
                self.leave(replica, sequence, time)
            elif replica.pool.role == "prefill":
                self.hand_over(replica, sequence, time)
            else:
                sequence.decoding = True

    def share(self, replica, sequence):
        full = min(len(sequence.hashes), sequence.prompt // replica.hash_tokens)
        for name in sequence.hashes[sequence.shared : full]:
            replica.use(name)
            sequence.shared += 1

    def hand_over(self, replica, sequence, time):
        replica.running.remove(sequence)
        replica.sending[sequence] = True
        replica.kept = getattr(replica, "kept", {})
        replica.kept[sequence.number] = (sequence.blocks, sequence.shared)
        sequence.replica = -1
        target = self.choose(sequence, "decode")
        sequence.replica, sequence.at_hand = target.index, "pool"
        pool, tokens = replica.pool, sequence.prompt + sequence.emitted - 1
        replica.link = max(time, replica.link) + tokens * (pool.kv_bytes / pool.link.bandwidth)
        there = replica.link + pool.link.latency
        if sequence.emitted == 1:
            sequence.first = sequence.token_times[-1] = there
        self.pending.append((there, sequence.number))

    # -- one step

    def plan(self, replica, time):
        policy, extra, halted = replica.policy, 0.0, False
        if policy.batching == "static":
            return self.plan_static(replica, time)
        extra += self.return_ready(replica, time)
        prompt, decoding = [], [s for s in replica.running if s.decoding]
        mix = not policy.prefill_first
        if mix and decoding:
            halted, more = self.make_room(replica)
            extra += more
            decoding = [s for s in replica.running if s.decoding]
        if not halted and not self.waits_for_more(replica):
            prompt = self.prefill(
                replica, time, int(min(policy.max_num_batched_tokens, 1 << 40)) - (len(decoding) if mix else 0)
            )
        if not mix and prompt:
            decoding = []
        elif not mix and decoding:
            halted, more = self.make_room(replica)
            extra += more
            decoding = [s for s in replica.running if s.decoding]
        return self.begin(replica, time, prompt, decoding, extra)

    def waits_for_more(self, replica):
        """Whether prompts that could begin are held back until as many wait as shall begin together."""
        policy = replica.policy
        decoding = any(s.decoding for s in replica.running)
        if policy.prompts_together == 1 or replica.pool.role != "both" or not decoding:
            return False
        if any(s.todo > 0 for s in replica.running):
            return False
        could = list(itertools.takewhile(lambda s: s.ready <= replica.seen and not s.at_hand, replica.waiting))
        could = could[: replica.most_seqs(len(self.sequences)) - len(replica.running)]
        if not could:
            replica.held_steps = -1
            return False
        replica.held_steps = max(replica.held_steps, 0)
        timed_out = replica.held_steps >= policy.hold_steps  # never where there is no limit, NaN
        return len(could) < policy.prompts_together and not timed_out

    def begin(self, replica, time, prompt, decoding, extra, slots=None, context=None):
        if not prompt and not decoding:
            ready = replica.waiting[0].ready if replica.waiting else INF
            replica.end = ready if ready > time else INF
            return
        tokens = sum(part for _, part, _ in prompt)
        keys = sum(part * (done + 0.5 * (part + 1)) for _, part, done in prompt)
        for sequence in decoding:
            sequence.stored += 1
        slots = len(decoding) if slots is None else slots
        context = sum(s.stored for s in decoding) if context is None else context
        step = self.step_time(tokens, keys / max(tokens, 1), slots, context / max(slots, 1))
        fresh = [s for s, _, _ in prompt if s.todo == 0]
        if prompt:
            replica.held_steps = -1
        replica.step, replica.began, replica.end = (decoding, fresh), time, time + extra + float(step)
        self.steps += 1

    def plan_static(self, replica, time):
        prompt = []
        if not replica.running:
            while replica.waiting and replica.waiting[0].ready <= time and self.room_for_one(replica):
                if self.admissible(replica, replica.waiting[0]) < 0:
                    break
                prompt.append(self.admit(replica, 0, time))
            if prompt:
                longest = max(s.prompt for s in prompt)
                replica.longest = longest
                return self.begin(replica, time, [(s, longest, 0) for s in prompt], [], 0.0)
        decoding = [s for s in replica.running if s.emitted < s.output]
        if decoding:
            replica.longest += 1
        count = len(replica.running)
        return self.begin(replica, time, [], decoding, 0.0, count, count * getattr(replica, "longest", 0))

    def room_for_one(self, replica):
        return len(replica.running) < replica.most_seqs(len(self.sequences))

    def admissible(self, replica, sequence):
        tokens = sequence.prompt + sequence.emitted - (1 if sequence.at_hand else 0)
        total = math.ceil(max(tokens, sequence.reserve) / replica.block)
        hits = 0
        if replica.prefix and not sequence.at_hand:
            for name in sequence.hashes[: (tokens - 1) // replica.hash_tokens]:
                if name not in replica.users and name not in replica.unused:
                    break
                hits += 1
        unused = sum(name in replica.unused for name in sequence.hashes[:hits])
        keep = 0
        if replica.running:
            owed = sum(s.output - s.emitted for s in replica.running)
            keep = int(replica.policy.watermark * replica.capacity)
            keep += int(replica.policy.headroom * owed) // replica.block
            if sequence.at_hand:
                keep += self.needed(replica) + 1
        if total - hits * replica.span + keep > replica.available() - unused * replica.span:
            return -1
        return hits

    def admit(self, replica, hits, time):
        sequence = replica.waiting.popleft()
        tokens = sequence.prompt + sequence.emitted - (1 if sequence.at_hand else 0)
        for name in sequence.hashes[:hits]:
            replica.use(name)
        sequence.shared = hits
        sequence.blocks = math.ceil(max(tokens, sequence.reserve) / replica.block)
        replica.running.append(sequence)
        replica.evict_down()
        if math.isnan(sequence.admitted):
            sequence.admitted = time
        sequence.stored = tokens
        return sequence

    def return_ready(self, replica, time):
        extra = 0.0
        while replica.waiting and self.room_for_one(replica):
            sequence = replica.waiting[0]
            if not sequence.at_hand or sequence.ready > replica.seen or self.admissible(replica, sequence) < 0:
                break
            self.admit(replica, 0, time)
            if sequence.at_hand == "host":
                extra += sequence.stored * (replica.pool.kv_bytes / replica.pool.swap_bandwidth)
            sequence.at_hand, sequence.decoding = "", True
        return extra

    def prefill(self, replica, time, left):
        parts = []
        while left > 0:
            partial = next((s for s in replica.running if s.todo > 0), None)
            if partial is None:
                if not replica.waiting or not self.room_for_one(replica):
                    break
                head = replica.waiting[0]
                if head.ready > replica.seen or head.at_hand:
                    break
                hits = self.admissible(replica, head)
                if hits < 0:
                    break
                todo = head.prompt + head.emitted - hits * replica.hash_tokens
                if not replica.policy.chunked and todo > left and parts:
                    break
                partial = self.admit(replica, hits, time)
                partial.todo, partial.cached = todo, partial.cached + hits * replica.hash_tokens
            part = min(partial.todo, left) if replica.policy.chunked else partial.todo
            done = partial.prompt + partial.emitted - partial.todo
            partial.todo -= part
            left -= part
            parts.append((partial, part, done))
            if partial.todo > 0:
                break
        return parts

    def needed(self, replica):
        growers = [s for s in replica.running if s.decoding and s.reserve == 0]
        return sum(math.ceil((s.stored + 1) / replica.block) - s.blocks for s in growers)

    def make_room(self, replica):
        halted, extra = False, 0.0
        while self.needed(replica) > replica.available():
            halted = True
            victim = replica.running.pop()
            victim.preempted += 1
            if victim.decoding and replica.policy.preemption == "swap":
                victim.at_hand = "host"
                extra += victim.stored * (replica.pool.kv_bytes / replica.pool.swap_bandwidth)
            victim.todo, victim.decoding = 0, False
            replica.release(victim)
            replica.waiting.appendleft(victim)
        for sequence in replica.running:
            if sequence.decoding and sequence.reserve == 0:
                sequence.blocks = math.ceil((sequence.stored + 1) / replica.block)
        replica.evict_down()
        return halted, extra


Sequence.__hash__ = lambda self: self.number
Sequence.__eq__ = lambda self, other: self is other
