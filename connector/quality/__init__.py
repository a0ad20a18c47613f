"""What can be said of dossiers as a whole: faults of the data, the online share, differences of mappings (pure)."""
