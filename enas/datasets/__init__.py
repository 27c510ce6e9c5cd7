"""Data sets as uint8 tensors, one file a source."""
