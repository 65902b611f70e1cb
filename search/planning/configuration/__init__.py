"""Describe the configuration of a candidate: its layout in words, its formats, its engine's settings.

`quantised` says which narrower formats an engine runs, `settings` resolves what a candidate leaves open, and `contexts`
refuses requests that exceed the context of the model.
"""
