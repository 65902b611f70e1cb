"""The compiled event loop of the simulator."""
