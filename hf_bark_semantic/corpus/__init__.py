"""Corpora of labelled speech: their rows and shards; how they are planned, filtered, imported and exported."""
