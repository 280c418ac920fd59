"""From raw files to versioned pair lists."""
