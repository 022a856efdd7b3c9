"""The plan of a margin: its jobs, their inputs and the resources that they request.

``jobs`` cuts the work into jobs. ``model`` is the plan with its ids, names of jobs and file.
``resources`` estimates memory, disk and time of each job.
"""
