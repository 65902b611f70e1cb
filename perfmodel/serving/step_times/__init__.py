"""Times of steps as the engine runs them, and how much prompts delay the sequences that decode.

`planned_step` describes a step, `steps` prices it with the host's time and the pipeline (`StepModel`). `curve` has the
decode step by the number of running sequences, `mixed_steps` steps that hold prompts too, `prefills` the delay
that prompts cause, and `token_spread` how times per output token differ between requests.
"""
