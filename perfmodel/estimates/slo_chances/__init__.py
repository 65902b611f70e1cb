"""Chances of SLOs: of one objective (`chance`), of several together and of one estimate beside others (`joint`)."""
