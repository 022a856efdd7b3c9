"""Checks a margin against its primary; shares no code with what makes margins."""
