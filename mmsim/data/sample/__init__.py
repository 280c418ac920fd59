"""A small drawn world with a known answer, and with all that real data has wrong."""
