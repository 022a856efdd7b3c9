"""The plan of a margin: its jobs, their inputs and the resources that they request.

``model`` is the plan with its ids, names of jobs and file. ``jobs`` cuts the work into jobs, and
estimates memory, disk and time of each.
"""
