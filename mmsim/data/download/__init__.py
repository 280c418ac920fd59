"""The release layout from any source: the public archives, a folder, or the sample."""
