"""What several commands share: options and how they are declared, scenarios that they read, pages of help.

`options` and `service_options` declare options, `option_groups` puts them into dataclasses, `plain_values` converts
their values, `other_flags` and `help_pages` explain them. `asked_scenario`, `read_options` and `searching` make
scenarios, deployments and plans of them. Each other module of `search.commands` is the command of its name.
"""
