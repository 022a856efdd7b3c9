"""Files on disk: whole or not at all, digests, locks."""
