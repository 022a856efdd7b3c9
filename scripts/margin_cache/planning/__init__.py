"""The plan of a margin: its jobs, what each of them reads, and what each of them asks for.

``jobs`` cuts the work into jobs. ``model`` is the plan with its ids, names of jobs and file.
``resources`` estimates memory, disk and time of each job, and ``forecast`` what a margin takes.
"""
