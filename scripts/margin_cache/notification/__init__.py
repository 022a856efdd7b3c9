"""What a run tells its user: lines on the terminal, and one mail at the end.

``messages`` writes the texts, ``failures`` finds the cause of a failed job in its logs, ``smtp``
sends a mail without ever delaying or failing a run.
"""
