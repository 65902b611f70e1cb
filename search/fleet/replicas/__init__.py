"""Model one replica of an option: the request rates that each layout serves within its SLOs.

A replica is one deployment (`batches`, `rates`), a pair of prefill and decode pools (`pairs`), or several models that
share devices (`shared_replicas`). Nothing here knows the fleet or its program.
"""
