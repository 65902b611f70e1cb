"""The page of a plan: `page_of_plan` puts it together.

`brief` has the answers at the top, `answer` the sections of the recommended candidate, `sections` those of all
candidates. `plan_charts`, `load_curves`, `confidence_section` and `replay_section` choose what their charts show.
"""
