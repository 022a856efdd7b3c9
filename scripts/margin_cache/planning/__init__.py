"""The plan of a margin: its jobs, which needs which, and what each asks for."""
