"""The compiled event loop of the simulator. Python enters it through `perfmodel.simulator.kernel.compiled`."""
