"""Tokenizing many clips: listing, ledger, workers, tar shards, index."""
