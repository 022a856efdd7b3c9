"""The report of a finished margin: figures, and a page with them."""
