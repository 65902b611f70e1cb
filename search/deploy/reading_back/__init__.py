"""Read what is deployed back into a launch.

`deployed` is the entrance. `documents` and `charts` find the commands in manifests and Helm values, `shell` splits them
into words, `recognised` finds the engine, `reading` and `files` read its flags and its configuration file. `loose`
reads documents that nobody validated.
"""
