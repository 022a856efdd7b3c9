"""Reading of partitions: positions of all rows, and all columns of the selected ones."""
