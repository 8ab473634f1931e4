"""From videos to sequences: exact frames, windows, any encoder."""
