"""Replay requests on pools of replicas: the state before the first event (`initial`), and the run (`replay`)."""
