"""The four stages of making a margin: preparing, mapping, reducing and finishing."""
