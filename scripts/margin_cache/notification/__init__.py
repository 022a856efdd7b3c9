"""What a run says at its end, on the terminal and by mail."""
