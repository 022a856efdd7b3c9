"""What a HiPSCat or HATS catalog is on disk: its formats, partitions and columns."""
