"""Programs that a recording must refuse, follow as they change, or accept."""
