"""Make a launch of a plan (`of_plan`), and write its commands: of a pool, of the benchmark, a shell script."""
