"""The networks of the search spaces, one file each, with shared blocks."""
