"""How far a run is: ``work`` counts partitions, pixels and bytes, ``display`` shows them."""
