"""What a run tells its user.

``messages`` writes the lines on the terminal and finds the causes of failed jobs in their logs;
``mail`` sends one mail at the end, without ever delaying or failing a run.
"""
