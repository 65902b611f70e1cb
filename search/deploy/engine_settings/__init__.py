"""How engines are told their settings: names, flags by release, checkpoints, images.

`templates` reads `templates.toml` (what each engine calls our settings), `parsers` the flags of each release (`flags`).
`settings` and `drafting` translate values both ways, `rules` names settings that contradict each other.
"""
