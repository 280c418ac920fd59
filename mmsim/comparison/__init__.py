"""Differences between revisions, and whether they are more than chance."""
