#!/usr/bin/env bash
# The reader of HiPSCat, without what it needs: it asks for a matplotlib older than the one above it.
python -m pip install --no-deps hipscat==0.3.9
