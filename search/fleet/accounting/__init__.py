"""Keep the account of a fleet: its replicas, the shares of its requests, what it pays, draws and emits.

`FleetPlan` in `fleet` is the answer that everything after it reads; `bills`, `account` and `idle` count money, carbon
and devices that serve nothing.
"""
