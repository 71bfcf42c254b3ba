"""Corpora of labelled speech: rows and shards, planning, filters, import and export."""
