"""The configuration: its keys, and what is said of faulty ones."""
