"""How far a run is: what is counted of it, and how that is shown."""
